#!/usr/bin/env bash
# Finding: converting an ONNX file with MNN's command runs "pip install -U" of another package, with any pip that PATH has.
# Version: MNN 3.6.1, onnx 1.23.2.
# Expected: a converter reads one file and writes another. What it needs is in the requirements of its package, where a lock
#   file or an offline mirror sees it; MNN's wheel names numpy alone.
# Seen: the command imports a logger that wants the SDK of a log service. If that is missing, it calls pip through the shell,
#   unpinned, and not by sys.executable: venv/bin/mnnconvert without activation installs into the system's Python, with all
#   that the SDK depends on, and upgrades what does not fit. If pip fails, the conversion goes on. With the SDK there, the
#   logger is to report version, machine id and model sizes (read in MNN/tools/utils/log.py, not run here).
# Meaning: a build with pinned packages changes its environment, or that of the whole machine, and a private model leaves a
#   trace elsewhere. Call _tools.mnnconvert with the same arguments: it is the converter alone, and writes the same file.
# Here a stand-in for pip only notes how it is called, so nothing is installed and nothing is reported.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check MNN==3.6.1 numpy==2.4.6 onnx==1.23.2 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
mkdir stand-in
printf '#!/bin/sh\necho "$@" >>"%s/calls"\nexit 1\n' "$work" >stand-in/pip
chmod +x stand-in/pip
export PATH="$work/stand-in:$PATH"
timeout 100 venv/bin/python -I - <<'EOF'
import pathlib
import subprocess
from importlib.metadata import requires
import onnx
from onnx import TensorProto, helper

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
ARGUMENTS = ["-f", "ONNX", "--modelFile", "model.onnx", "--bizCode", "finding", "--MNNModel"]
calls = pathlib.Path("calls")

def convert(*command):
    """Calls of pip during one conversion, and the size of the model that came out."""
    calls.write_text("")
    done = subprocess.run([*command, *ARGUMENTS, "model.mnn"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = pathlib.Path("model.mnn")
    size = model.stat().st_size
    model.unlink()
    return calls.read_text().splitlines(), size

print("the wheel requires:", requires("MNN"))
found, size = convert("venv/bin/mnnconvert")
print("mnnconvert called pip with:", found, "and wrote", size, "bytes")
CURE = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
alone, same = convert("venv/bin/python", "-I", "-c", CURE)
print("the converter alone called pip with:", alone, "and wrote", same, "bytes")
assert set(found) == {"install -U aliyun-log-python-sdk"}, "mnnconvert leaves pip alone now"
assert not alone and size == same > 0
EOF
