#!/usr/bin/env python3
"""Goal: the Helm chart makes what Kubernetes takes, in every shape, and refuses mistakes. Method: helm
itself lints and renders it, and what comes out is validated strictly against the API schemas of four
versions of Kubernetes and of the Prometheus operator; Prometheus' own tool reads the rules.

usage: chart_test.py [PACKAGE.deb] [unittest's arguments]
"""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from machine import CACHE, run

PYTHON = CACHE / "charts/python/bin/python"
try:
    import jsonschema
    import kubernetes_validate
    import yaml
except ImportError:
    if pathlib.Path(sys.executable) == PYTHON:
        raise
    os.execv(PYTHON, [str(PYTHON), "-B", *sys.argv])

HELM = shutil.which("helm") or CACHE / "charts/helm"
KUBERNETES = pathlib.Path(__file__).resolve().parents[2] / "ops/kubernetes"
CHART = KUBERNETES / "outfall"
EXAMPLES = sorted((KUBERNETES / "examples").glob("*.yaml"))
VERSIONS = ("1.29", "1.31", "1.33", "1.35")


def closed(schema):
    """The same schema, which refuses what it does not name; the API server would drop that."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: closed(of) for name, of in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    for below in ("items", "additionalProperties"):
        if isinstance(schema.get(below), dict):
            made[below] = closed(schema[below])
    # Go takes a flag anywhere, Python only in front.
    if "(?i)" in schema.get("pattern", ""):
        made["pattern"] = "(?i)" + schema["pattern"].replace("(?i)", "")
    return made


def operator_schemas():
    """The schemas of what the Prometheus operator defines, by apiVersion and kind."""
    found = {}
    for file in (CACHE / "charts").glob("operator-*/*.yaml"):
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]
        for version in spec["versions"]:
            kind = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            found[kind] = closed(version["schema"]["openAPIV3Schema"])
    if not found:
        raise AssertionError(f"no schemas of the Prometheus operator in {CACHE}/charts: run ops/install-dependencies systems")
    return found


OPERATOR = operator_schemas()


def validate(document, version):
    schema = OPERATOR.get((document["apiVersion"], document["kind"]))
    if schema is not None:
        jsonschema.validate(document, schema)
    else:
        kubernetes_validate.validate(document, version, strict=True)


def helm(*arguments, check=True):
    environment = dict(os.environ, HELM_CACHE_HOME="/nonexistent", HELM_CONFIG_HOME="/nonexistent",
                       HELM_DATA_HOME="/nonexistent")
    done = subprocess.run([str(part) for part in (HELM, *arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=environment)
    if check and done.returncode != 0:
        raise AssertionError(done.stderr)
    return done


def template(*arguments, version="1.33", check=True):
    return helm("template", "shop", CHART, "--kube-version", version, *arguments, check=check)


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def pods(rendered):
    return [document["spec"]["template"] for document in rendered if document["kind"] in ("Deployment", "Job")]


def of_kind(rendered, kind):
    return [document for document in rendered if document["kind"] == kind]


def ours(pod):
    """The containers that the chart makes itself."""
    spec = pod["spec"]
    return [c for c in spec.get("initContainers", []) + spec["containers"] if c["name"] in ("outfall", "migrate")]


class Chart(unittest.TestCase):
    def shapes(self):
        yield "defaults", []
        for example in EXAMPLES:
            yield example.stem, ["--values", example]

    def test_helm_finds_no_fault(self):
        for name, values in self.shapes():
            with self.subTest(name):
                helm("lint", "--strict", CHART, *values)

    def test_every_version_of_kubernetes_takes_every_shape(self):
        kinds = collections.Counter()
        for version in VERSIONS:
            for name, values in self.shapes():
                for document in documents(template(*values, version=version).stdout):
                    with self.subTest(f"{name} {document['kind']} {version}"):
                        validate(document, version)
                        kinds[document["kind"]] += 1
        self.assertGreater(kinds.total(), 4 * len(VERSIONS) * 4)
        self.assertLessEqual({"PodMonitor", "PrometheusRule"}, set(kinds))

    def test_the_validation_would_notice(self):
        rendered = documents(template().stdout)
        deployment = of_kind(rendered, "Deployment")[0]
        deployment["spec"]["template"]["spec"]["containers"][0]["resartPolicy"] = "Always"
        with self.assertRaises(kubernetes_validate.ValidationError):
            validate(deployment, "1.33")

    def test_the_validation_would_notice_what_is_the_operators(self):
        for kind, spoil in (
                ("PodMonitor", lambda spec: spec.update(podMetricEndpoints=spec.pop("podMetricsEndpoints"))),
                ("PodMonitor", lambda spec: spec["podMetricsEndpoints"][0].update(intervall="15s")),
                ("PodMonitor", lambda spec: spec["podMetricsEndpoints"][0].update(interval="15 seconds")),
                ("PrometheusRule", lambda spec: spec["groups"][0]["rules"][0].update(labells={})),
                ("PrometheusRule", lambda spec: spec["groups"][0]["rules"][0].pop("expr"))):
            rendered = documents(template("--values", KUBERNETES / "examples/operator.yaml").stdout)
            (document,) = of_kind(rendered, kind)
            validate(document, "1.33")
            spoil(document["spec"])
            with self.assertRaises(jsonschema.ValidationError):
                validate(document, "1.33")

    def test_containers_may_do_nothing_that_they_need_not(self):
        for name, values in self.shapes():
            rendered = documents(template(*values).stdout)
            self.assertGreater(len(pods(rendered)), 1)
            for pod in pods(rendered):
                self.assertIs(pod["spec"]["automountServiceAccountToken"], False)
                self.assertIs(pod["spec"]["enableServiceLinks"], False)
                for container in ours(pod):
                    with self.subTest(f"{name} {container['name']}"):
                        context = container["securityContext"]
                        self.assertEqual(
                            (context["runAsNonRoot"], context["readOnlyRootFilesystem"],
                             context["allowPrivilegeEscalation"], context["capabilities"]["drop"],
                             context["seccompProfile"]["type"]), (True, True, False, ["ALL"], "RuntimeDefault"))

    def test_secrets_are_files_that_follow_their_secret(self):
        for _, values in self.shapes():
            for pod in pods(documents(template(*values).stdout)):
                volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
                for container in ours(pod):
                    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
                    self.assertFalse(any("subPath" in mount for mount in mounts.values()))
                    files = [v for v in container["env"] if v["name"].endswith("_FILE")]
                    self.assertIn("OUTFALL_DATABASE__URL_FILE", [v["name"] for v in files])
                    for variable in files:
                        folder, _, file = variable["value"].rpartition("/")
                        items = volumes[mounts[folder]["name"]]["secret"]["items"]
                        self.assertEqual([item["path"] for item in items], [file])
                    self.assertFalse(any("secretKeyRef" in v.get("valueFrom", {}) for v in container["env"]))

    def test_a_sidecar_starts_before_its_application_and_decides_nothing_for_it(self):
        rendered = documents(template("--values", KUBERNETES / "examples/sidecar.yaml").stdout)
        spec = of_kind(rendered, "Deployment")[0]["spec"]["template"]["spec"]
        (sidecar,) = spec["initContainers"]
        self.assertEqual([c["name"] for c in spec["containers"]], ["shop"])
        self.assertEqual(sidecar["restartPolicy"], "Always")
        self.assertEqual(sidecar["startupProbe"]["httpGet"]["path"], "/livez")
        self.assertNotIn("readinessProbe", sidecar)
        self.assertEqual(spec["terminationGracePeriodSeconds"], 75)

    def test_the_migration_is_a_hook_with_what_it_needs(self):
        rendered = documents(template("--values", KUBERNETES / "examples/operator.yaml").stdout)
        (job,) = of_kind(rendered, "Job")
        annotations = job["metadata"]["annotations"]
        self.assertEqual(annotations["helm.sh/hook"], "pre-install,pre-upgrade")
        spec = job["spec"]["template"]["spec"]
        maps = {document["metadata"]["name"]: document for document in of_kind(rendered, "ConfigMap")}
        used = [v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v][0]
        # What a hook mounts is a hook that comes before it.
        self.assertLess(int(maps[used]["metadata"]["annotations"]["helm.sh/hook-weight"]),
                        int(annotations["helm.sh/hook-weight"]))
        secrets = [v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v]
        self.assertEqual(secrets, ["outfall-owner", "outfall", "certificates"])
        # Wherever the database's stands among them.
        rendered = documents(template("--set-json", "secrets=" + json.dumps(
            [{"setting": "OUTFALL_EMITTERS__HOOK__SECRET_FILE", "secretName": "hook", "key": "secret"},
             {"setting": "OUTFALL_DATABASE__URL_FILE", "secretName": "outfall", "key": "url"}]),
            "--set", "migration.secretName=owner").stdout)
        (job,) = of_kind(rendered, "Job")
        secrets = [v["secret"]["secretName"] for v in job["spec"]["template"]["spec"]["volumes"] if "secret" in v]
        self.assertEqual(secrets, ["owner", "hook"])
        self.assertEqual(of_kind(documents(template("--set", "migration.enabled=false").stdout), "Job"), [])

    def test_monitoring_names_what_is_there(self):
        rendered = documents(template("--values", KUBERNETES / "examples/operator.yaml").stdout)
        (monitor,) = of_kind(rendered, "PodMonitor")
        pod = of_kind(rendered, "Deployment")[0]["spec"]["template"]
        self.assertEqual(monitor["metadata"]["labels"]["release"], "prometheus")
        self.assertIn("outfall", monitor["metadata"]["name"])
        self.assertLessEqual(set(monitor["spec"]["selector"]["matchLabels"].items()), set(pod["metadata"]["labels"].items()))
        ports = [port["name"] for port in ours(pod)[0]["ports"]]
        self.assertEqual([end["port"] for end in monitor["spec"]["podMetricsEndpoints"]], ports)
        (rule,) = of_kind(rendered, "PrometheusRule")
        shipped = yaml.safe_load((KUBERNETES.parent / "prometheus/outfall.rules.yml").read_text(encoding="utf-8"))
        self.assertEqual(rule["spec"], shipped)
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump(rule["spec"], file)
            file.flush()
            self.assertIn("SUCCESS", run(["promtool", "check", "rules", file.name]).stdout)

    def test_runbooks_are_where_the_cluster_finds_them(self):
        base = "https://docs.example/runbooks"
        (rule,) = of_kind(documents(template("--set", "metrics.rules.enabled=true", "--set",
                                             f"metrics.rules.runbookUrl={base}").stdout), "PrometheusRule")
        alerts = {one["alert"]: one["annotations"]["runbook_url"]
                  for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one}
        self.assertGreaterEqual(len(alerts), 20)
        self.assertEqual(alerts, {name: f"{base}/{name}.md" for name in alerts})

    def test_policies_select_the_pods(self):
        rendered = documents(template("--values", KUBERNETES / "examples/workers.yaml").stdout)
        labels = of_kind(rendered, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
        (policy,) = of_kind(rendered, "NetworkPolicy")
        (budget,) = of_kind(rendered, "PodDisruptionBudget")
        for selector in (policy["spec"]["podSelector"], budget["spec"]["selector"]):
            self.assertLessEqual(set(selector["matchLabels"].items()), set(labels.items()))
        job = of_kind(rendered, "Job")[0]["spec"]["template"]["metadata"]["labels"]
        self.assertNotEqual(job["app.kubernetes.io/name"], labels["app.kubernetes.io/name"])
        # Of one worker, a budget would forbid every drain of its node.
        self.assertEqual(of_kind(documents(template("--set", "replicas=1").stdout), "PodDisruptionBudget"), [])

    def test_mistakes_are_refused_and_named(self):
        database = '[{"setting": "OUTFALL_DATABASE__URL_FILE", "secretName": "s", "key": "k"}]'
        for mistake, named in (
                ("replica=2", "replica"), ("replicas=two", "replicas"), ("shape=deployment", "shape"),
                ("shape=sidecar", "containers"), ("image.repository=", "repository"),
                ("image.digest=sha256:abc", "digest"), ("image.repository=x:1", "repository"),
                ("log.format=yaml", "format"), ("metrics.podMonitor.interval=15", "interval"),
                ("metrics.rules.runbookUrl=docs.example", "runbookUrl"),
                ("migration.secret=x", "secret"), ("configuration=", "configuration"),
                ("environment.DB_PASSWORD=x", "DB_PASSWORD"),
                ("environment.OUTFALL_DATABASE__URL=x", "OUTFALL_DATABASE__URL"),
                ("fullnameOverride=drain", "fullnameOverride"), ("secrets[0].setting=OUTFALL_DATABASE__URL", "setting"),
                ("podDisruptionBudget.maxUnavailable=many", "maxUnavailable"),
                ("terminationGracePeriodSeconds=0", "terminationGracePeriodSeconds")):
            with self.subTest(mistake):
                refused = template("--set", mistake, check=False)
                self.assertNotEqual(refused.returncode, 0, "taken")
                self.assertIn(named, refused.stderr)
        refused = template("--set-json", "secrets=[]", check=False)
        self.assertIn("secrets", refused.stderr)
        template("--set-json", f"secrets={database}")
        # It would hold for the application's own traffic.
        refused = template("--values", KUBERNETES / "examples/sidecar.yaml", "--set", "networkPolicy.enabled=true", check=False)
        self.assertIn("networkPolicy", refused.stderr)

    def test_an_old_kubernetes_is_refused(self):
        self.assertIn("1.29", template(version="1.28", check=False).stderr)

    def test_plain_manifests_are_in_step(self):
        with tempfile.TemporaryDirectory() as folder:
            run([sys.executable, "-B", KUBERNETES / "render", folder])
            for file in sorted(pathlib.Path(folder).iterdir()):
                text = (KUBERNETES / "plain" / file.name).read_text(encoding="utf-8")
                self.assertEqual(text, file.read_text(encoding="utf-8"), "run ops/kubernetes/render")
                for document in documents(text):
                    validate(document, "1.33")
            self.assertEqual(len(list((KUBERNETES / "plain").iterdir())), 2)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].endswith(".deb"):
        del sys.argv[1]
    unittest.main(verbosity=2)
