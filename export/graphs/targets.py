"""Targets: the machines that run a bundle, with the file format and operators that they accept."""

from __future__ import annotations

from dataclasses import dataclass

from edgesem.errors import UsageError

OPSET = 20
MAX_IR_VERSION = 10  # JetPack 6 is held at Python 3.10 and so at ONNX Runtime 1.23

# Operators of opset 20 that TensorRT 10.3 (JetPack 6.2) imports, as far as our exporters emit them.
_TENSORRT = frozenset(
    """
    Abs Add And Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose DepthToSpace DequantizeLinear Div Einsum
    Equal Erf Exp Expand Flatten Floor Gather GatherND Gelu Gemm GlobalAveragePool Greater HardSigmoid HardSwish
    Identity InstanceNormalization LayerNormalization LeakyRelu Less Log MatMul Max Min Mod Mul Neg Not Pad Pow PRelu
    QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceSum Relu Reshape Resize Round Shape Sigmoid Sin Cos
    Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze Where
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Target:
    """A kind of machine. `operators`: what its accelerator takes; None: whatever ONNX Runtime on a CPU does."""

    name: str
    tensorrt: bool = False
    operators: frozenset[str] | None = None


TARGETS = {
    target.name: target
    for target in (
        *(  # ONNX Runtime on the CPU: for the first Jetson Nano too, whose JetPack ended before TensorRT 10
            Target(name)
            for name in (
                "x86",
                "generic-x86",
                "generic-aarch64",
                "raspberry-pi-zero-2w",
                "raspberry-pi-4",
                "raspberry-pi-5",
                "jetson-nano",
            )
        ),
        *(
            Target(name, tensorrt=True, operators=_TENSORRT)
            for name in ("jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-agx-thor")
        ),
    )
}


def target_of(name: str) -> Target:
    """The target of a name: `x86` or a board of `edgesem device list`. Raises UsageError that lists them."""
    try:
        return TARGETS[name]
    except KeyError:
        raise UsageError(f"no target is called {name!r}: name one of {', '.join(TARGETS)}") from None
