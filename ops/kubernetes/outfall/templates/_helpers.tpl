{{- define "outfall.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Has "outfall" in it, by which the alerts recognise the scrape job. */}}
{{- define "outfall.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "outfall.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "outfall.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "outfall.selector" -}}
app.kubernetes.io/name: {{ include "outfall.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "outfall.labels" -}}
{{ include "outfall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "outfall.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "outfall.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop:
    - ALL
privileged: false
readOnlyRootFilesystem: true
runAsGroup: 10001
runAsNonRoot: true
runAsUser: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What worker and migration have in common, by `secrets`: a list of secrets. */}}
{{- define "outfall.environment" -}}
- name: OUTFALL_CONFIG
  value: /etc/outfall/outfall.toml
- name: OUTFALL_WORKER__INSTANCE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OUTFALL_ADMIN__LISTEN
  value: "0.0.0.0:9464"
- name: OUTFALL_LOG__LEVEL
  value: {{ .root.Values.log.level }}
- name: OUTFALL_LOG__FORMAT
  value: {{ .root.Values.log.format }}
{{- range $index, $secret := .secrets }}
- name: {{ $secret.setting }}
  value: /run/secrets/outfall/{{ $index }}/{{ $secret.key }}
{{- end }}
{{- range $name, $value := .root.Values.environment }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Not by subPath: such mounts never see a new version of a Secret. */}}
{{- define "outfall.mounts" -}}
- name: outfall-configuration
  mountPath: /etc/outfall
  readOnly: true
{{- range $index, $secret := .secrets }}
- name: outfall-secret-{{ $index }}
  mountPath: /run/secrets/outfall/{{ $index }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "outfall.volumes" -}}
- name: outfall-configuration
  configMap:
    name: {{ .configMap }}
{{- range $index, $secret := .secrets }}
- name: outfall-secret-{{ $index }}
  secret:
    secretName: {{ $secret.secretName }}
    defaultMode: 0444
    items:
      - key: {{ $secret.key }}
        path: {{ $secret.key }}
{{- end }}
{{- end -}}

{{/* The worker as a container, of a pod or beside an application. */}}
{{- define "outfall.container" -}}
name: outfall
image: {{ include "outfall.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if eq .Values.shape "sidecar" }}
# A native sidecar: it starts before the application and stops after it.
restartPolicy: Always
{{- end }}
args:
  - run
env:
  {{- include "outfall.environment" (dict "root" . "secrets" .Values.secrets) | nindent 2 }}
ports:
  - name: outfall-metrics
    containerPort: 9464
    protocol: TCP
# With a sidecar the application starts when this succeeds. Neither of them looks at the database or at
# a destination: an outage there must not stop the application.
startupProbe:
  httpGet:
    path: /livez
    port: outfall-metrics
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: outfall-metrics
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- if eq .Values.shape "workers" }}
readinessProbe:
  httpGet:
    path: /readyz
    port: outfall-metrics
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- include "outfall.securityContext" . | nindent 2 }}
volumeMounts:
  {{- include "outfall.mounts" (dict "secrets" .Values.secrets) | nindent 2 }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
