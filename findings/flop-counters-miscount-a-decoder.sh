#!/usr/bin/env bash
# Finding: thop and torchinfo count a decoder's transposed convolution four times; PyTorch's own counter is right, but counts the
#   training of a depthwise layer up to once more for each channel.
# Version: torch 2.13.0, thop 0.1.1.post2209072238, torchinfo 1.8.0, fvcore 0.1.5.post20221221. The torch wheel is large.
# Expected: multiplications of a layer are a matter of counting: those who ask five packages have one number. A layer without
#   bias that makes 2H x 2W from H x W by a kernel of 4 x 4 has H * W * 16 * (channels in) * (channels out).
# Seen: torch.utils.flop_counter and fvcore say so. thop and torchinfo multiply the kernel by the size of the output, which is
#   right for a convolution and stride^2 too much here: 4 times, 16 with a stride of 4. In training each layer costs 3 times
#   its forward pass; the counter of torch says so for dense layers, but takes the gradient of a grouped layer's weights for
#   dense: 66 times in place of 3 at 64 groups. torchinfo counts a Linear for one row only, where its input has 4 dimensions.
# Meaning: two tables of codecs that were made with two counters do not compare; a decoder of transposed layers looks up to four
#   times as dear as one of PixelShuffle, and a board that can run it is ruled out. A training of depthwise layers seems to use
#   more than the machine can give. Count the forward pass with torch's counter, and take training as three times that.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 thop==0.1.1.post2209072238 torchinfo==1.8.0 \
  fvcore==0.1.5.post20221221 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import logging
import warnings
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import thop
import torch
import torchinfo
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

def by_torch(layer, x, training=False):
    """Multiplications by PyTorch's counter, which counts additions as well."""
    x = x.clone().requires_grad_(training)
    with FlopCounterMode(display=False) as counter:
        y = layer(x)
        if training:
            y.sum().backward()
    return counter.get_total_flops() / 2

def counts(layer, *shape):
    """What each package says, as a multiple of the true number, and the training by torch."""
    x = torch.zeros(1, *shape)
    values = layer(x)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    weights_of_a_value = layer.weight[0].numel()  # [in, out / groups, k, k] or [out, in / groups, k, k]
    true = (x if transposed else values).numel() * weights_of_a_value
    said = {"torch": by_torch(layer, x), "torch, training": by_torch(layer, x, True),
            "fvcore": FlopCountAnalysis(layer, x).total(),
            "thop": thop.profile(layer, inputs=(x,), verbose=False)[0],
            "torchinfo": torchinfo.summary(layer, input_data=x, verbose=0).total_mult_adds}
    return {name: number / true for name, number in said.items()}

bare = {"bias": False}
GROUPS = 64
layers = {"convolution, stride 2": (nn.Conv2d(32, 48, 4, 2, 1, **bare), (32, 32, 32), 1, 3),
          "transposed, stride 2": (nn.ConvTranspose2d(32, 48, 4, 2, 1, **bare), (32, 32, 32), 4, 3),
          "transposed, stride 4": (nn.ConvTranspose2d(32, 48, 4, 4, 0, **bare), (32, 32, 32), 16, 3),
          "depthwise": (nn.Conv2d(GROUPS, GROUPS, 3, 1, 1, groups=GROUPS, **bare), (GROUPS, 16, 16), 1, 2 + GROUPS),
          "depthwise, transposed": (nn.ConvTranspose2d(GROUPS, GROUPS, 4, 2, 1, groups=GROUPS, **bare), (GROUPS, 16, 16), 4,
                                    2 + GROUPS)}
for name, (layer, shape, factor, training) in layers.items():
    said = counts(layer, *shape)
    print(f"{name:22}", {key: round(value, 2) for key, value in said.items()})
    assert said["torch"] == said["fvcore"] == 1, "a right counter has changed"
    assert said["thop"] == said["torchinfo"] == factor, "thop or torchinfo has changed"
    assert said["torch, training"] == training, "torch counts training otherwise now"
rows = counts(nn.Linear(32, 16, bias=False), 8, 32, 32)
print(f"{'linear on 8 x 32 rows':22}", {key: round(value, 4) for key, value in rows.items()})
assert rows["torch"] == rows["thop"] == 1 and rows["torchinfo"] == 1 / 256
EOF
