// What a dashboard's JSON may be, of the types that Grafana publishes of its own: they name enumerations, where JSON has
// their values, and leave a panel's options to its kind. What a data source is asked is not theirs.
import type * as raw from '@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Key in keyof T]: Plain<T[Key]> }
      : T;

type PanelOf<Kind extends string, Options, Custom> = Plain<
  Omit<raw.Panel, 'type' | 'options' | 'fieldConfig' | 'targets'>
> & {
  type: Kind;
  options: Plain<Options>;
  fieldConfig: Plain<Omit<raw.FieldConfigSource, 'defaults'>> & {
    defaults: Plain<Omit<raw.FieldConfig, 'custom'>> & { custom?: Plain<Custom> };
  };
  targets: object[];
};

// Grafana itself writes nothing where no data source is chosen, and the text of a query in `definition`, too.
type Variable = Omit<Plain<raw.VariableModel>, 'current'> & {
  current?: Plain<raw.VariableOption> | Record<string, never>;
  definition?: string;
};

export type Board = Plain<Omit<raw.Dashboard, 'panels' | 'templating'>> & {
  templating?: { list?: Variable[] };
  panels: object[];
};
export type Panels = {
  row: Plain<raw.RowPanel>;
  stat: PanelOf<'stat', stat.Options, never>;
  timeseries: PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>;
};
