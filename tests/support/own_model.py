"""Networks of a user's own for the tests: an orthogonal transform of 8x8 blocks, as Python and as ONNX files."""

import onnx

OWN = """
import torch
torch.manual_seed(0)
encoder = torch.nn.Conv2d(3, 24, 8, stride=8)
decoder = torch.nn.ConvTranspose2d(24, 3, 8, stride=8)
basis = torch.linalg.qr(torch.rand(192, 24))[0].T.reshape(24, 3, 8, 8)
with torch.no_grad():
    for part in (encoder, decoder):
        part.weight.copy_(basis)
        part.bias.zero_()
minutes = 0.02
"""


def write_own(folder):
    """The same two as ONNX files, the decoder of an older opset."""
    namespace: dict = {}
    exec(OWN, namespace)
    parts = (("encoder", "Conv", 20, 3, 24), ("decoder", "ConvTranspose", 18, 24, 3))
    for name, operator, opset, inputs, outputs in parts:
        node = onnx.helper.make_node(operator, ["x", "weight", "bias"], ["y"], strides=[8, 8])
        ends = [
            [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, [1, channels, f"h{end}", f"w{end}"])]
            for end, channels in (("x", inputs), ("y", outputs))
        ]
        weights = [onnx.numpy_helper.from_array(v.detach().numpy(), k) for k, v in namespace[name].named_parameters()]
        drawn = onnx.helper.make_graph([node], name, *ends, weights)
        opsets = [onnx.helper.make_opsetid("", opset)]
        onnx.save(onnx.helper.make_model(drawn, opset_imports=opsets, ir_version=10), folder / f"{name}.onnx")
