"""Examples of how to run a receiver for each shard: systemd, Kubernetes, Nomad."""

import shutil
from pathlib import Path

import pytest
import yaml

import devices
from devices.units import UNITS
from edgesem.config import load_config
from runtime.daemon.receive_settings import ReceiveSettings
from tests.support.unit_files import complaints

FOLDER = Path(devices.__file__).parent / "fleet"
TEMPLATE = FOLDER / "edgesem-receiver@.service"


def test_the_template_differs_from_the_unit_by_its_shard_alone():
    unit, template = ((path.read_text()).splitlines() for path in (UNITS / "edgesem-receiver.service", TEMPLATE))
    added = [line for line in template if line not in unit]
    removed = [line for line in unit if line not in template]
    assert all("receiver" in line or "shard" in line.lower() for line in added)
    kinds = {line.partition("=")[0] for line in removed if "=" in line}
    assert kinds == {
        *("Description", "ExecStart", "Environment", "WorkingDirectory"),
        *("StateDirectory", "RuntimeDirectory", "RuntimeDirectoryPreserve", "CacheDirectory"),
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_reads_the_template(tmp_path):
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    shutil.copy(TEMPLATE, folder)

    instance = folder / "edgesem-receiver@3.service"
    assert complaints(instance) == []
    path = folder / TEMPLATE.name
    path.write_text(path.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert complaints(instance)  # the check sees a slip


def test_kubernetes_has_as_many_pods_as_shards(tmp_path):
    service, config, pods = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    spec = pods["spec"]
    [container] = spec["template"]["spec"]["containers"]
    env = {one["name"]: one for one in container["env"]}
    assert int(env["EDGESEM_SHARDS"]["value"]) == spec["replicas"]
    assert (
        env["EDGESEM_SHARD"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"
    )
    assert "$(EDGESEM_SHARD)/$(EDGESEM_SHARDS)" in container["args"]
    assert spec["serviceName"] == service["metadata"]["name"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    [claim] = spec["volumeClaimTemplates"]
    names = {one["name"] for one in spec["template"]["spec"]["volumes"]} | {claim["metadata"]["name"]}
    assert {one["name"] for one in container["volumeMounts"]} == names
    (tmp_path / "receive.toml").write_text(config["data"]["receive.toml"])
    settings = load_config(tmp_path / "receive.toml", ReceiveSettings)
    assert len(settings.broker.hosts) == 3
    mounts = [one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")]
    assert any(str(settings.out.folder).startswith(mount) for mount in mounts)


def test_kubernetes_schema():
    validate = pytest.importorskip("kubernetes_validate")
    for one in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()):
        validate.validate(one, "1.32", strict=True)


def test_nomad_has_as_many_allocations_as_shards():
    text = (FOLDER / "nomad.hcl").read_text()
    assert "count = var.shards" in text
    assert '"--shard", "${NOMAD_ALLOC_INDEX}/${var.shards}"' in text
    assert text.count("{") == text.count("}")
    hcl2 = pytest.importorskip("hcl2")
    assert hcl2.loads(text)["job"]
