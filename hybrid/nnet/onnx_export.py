"""A network as an ONNX graph, made of its parameters and settings alone.

torch's own exporters follow a model's Python, and ours recurs in kernels of its own (recurrence.py: an autograd
function around TorchScript that writes into its arguments), which they cannot follow; and each torch has another
exporter. So the graph is written down here in standard operators, the same under every torch, and without torch:

    features float32 [batch, time, input_dim], lengths int64 [batch]  ->  logits float32 [batch, time, num_pdfs]

As in the models, an output depends neither on the padding nor on the rest of the batch. Only the head "logits" goes
along. An LSTM is ONNX's LSTM, which takes lengths and runs backwards within them; one with a projection, which ONNX has
not, is a Scan over its frames. ONNX has the gates in the order i, o, f, g; torch i, f, g, o.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np

from hybrid.errors import MissingDependency, ModelError

OPSET = 17  # LayerNormalization
_IR_VERSION = 8  # of the same time: readable by every onnxruntime since 1.12
_NORM_EPSILON = 1e-5  # torch.nn.LayerNorm's
_BATCH_NORM_EPSILON = 1e-3  # batch_norm.py
_STACK = 3  # tdnnf.py
Arrays = Mapping[str, np.ndarray]
Inputs = Sequence[Union[str, np.ndarray, float, int, List[int]]]


def onnx_bytes(kind: str, config: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Return the network as the bytes of an ONNX file.

    kind, config: as config.json of a model's folder has them ("lstm", "tdnnf"); arrays: its tensors, by name.
    Raises MissingDependency without the package onnx, ModelError for a kind that cannot be exported.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(
            f"the package onnx cannot be imported: {error}", remedy="pip install 'hybrid-asr[onnx]'"
        ) from error
    if kind not in _WRITERS:
        raise ModelError(f"a network of the kind {kind!r} has no ONNX form", remedy="export it without --onnx")
    graph = _Graph(arrays)
    logits = _WRITERS[kind](graph, config)
    graph.node("Identity", [logits], output="logits")
    floats, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    value = onnx.helper.make_tensor_value_info
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            f"hybrid-{kind}",
            [value("features", floats, ["batch", "time", config["input_dim"]]), value("lengths", whole, ["batch"])],
            [value("logits", floats, ["batch", "time", config["num_pdfs"]])],
            graph.initializers,
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="hybrid-asr",
    )
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes and constants, as they are written; every method returns the name of what it computes."""

    def __init__(self, arrays: Arrays, prefix: str = "") -> None:
        self.arrays, self.prefix = arrays, prefix
        self.nodes: List[Any] = []
        self.initializers: List[Any] = []
        self._constants: Dict[bytes, str] = {}

    def node(self, operator: str, inputs: Inputs, *, output: Optional[str] = None, outputs: int = 1, **attributes: Any
             ) -> str:  # fmt: skip
        """Add a node, and return the name of its first output. inputs: names, or constants ("" for none)."""
        import onnx

        names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        output = output or f"{self.prefix}{operator.lower()}{len(self.nodes)}"
        made = [output, *(f"{output}.{number}" for number in range(1, outputs))]
        self.nodes.append(onnx.helper.make_node(operator, names, made, **attributes))
        return output

    def constant(self, value: Any) -> str:
        """Return the name of a constant: floats become float32, whole numbers int64."""
        import onnx

        array = np.asarray(value)
        array = np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else np.int64).reshape(array.shape)
        key = str((array.dtype, array.shape)).encode() + array.tobytes()
        if key not in self._constants:
            self._constants[key] = f"{self.prefix}constant{len(self._constants)}"
            self.initializers.append(onnx.numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def linear(self, x: str, name: str) -> str:
        """Return W x + b by a layer's parameters."""
        y = self.node("MatMul", [x, self.arrays[f"{name}.weight"].T])
        return self.node("Add", [y, self.arrays[f"{name}.bias"]])

    def slice(self, x: str, begin: int, end: int, axis: int) -> str:
        return self.node("Slice", [x, [begin], [end], [axis]])

    def size(self, x: str, axis: int) -> str:
        """Return a scalar."""
        return self.node("Gather", [self.node("Shape", [x]), axis])

    def times(self, frames: str) -> str:
        """Return 0, 1, ... below `frames`, [1, T]."""
        return self.node("Unsqueeze", [self.node("Range", [0, frames, 1]), [0]])

    def last(self) -> str:
        """Return the number of each utterance's last frame, [B, 1]."""
        return self.node("Sub", [self.node("Unsqueeze", ["lengths", [1]]), 1])

    def take(self, x: str, index: str) -> str:
        """Return the frames of x [B, T, D] that index [B, T'] names: [B, T', D]."""
        return self.node("GatherND", [x, self.node("Unsqueeze", [index, [2]])], batch_dims=1)

    def normalised(self) -> str:
        x = self.node("Sub", ["features", self.arrays["input_mean"]])
        return self.node("Mul", [x, self.arrays["input_scale"]])


# ------------------------------------------------------------------ LSTM


def _lstm(graph: _Graph, config: Mapping[str, Any]) -> str:
    x = graph.normalised()
    frames, lengths = graph.size("features", 1), "lengths"
    if config["input_layer_dim"]:
        times, parts = graph.times(frames), []
        for offset in range(-config["input_layer_context"], config["input_layer_context"] + 1):
            index = graph.node("Max", [graph.node("Add", [times, offset]), 0])
            parts.append(graph.take(x, graph.node("Min", [index, graph.last()])))
        x = graph.node("Relu", [graph.linear(graph.node("Concat", parts, axis=2), "input_layer")])
    if config["delay"]:
        frames = graph.node("Add", [frames, config["delay"]])
        x = graph.take(x, graph.node("Min", [graph.times(frames), graph.last()]))
        lengths = graph.node("Add", ["lengths", config["delay"]])
    names = ["forward_layers", "backward_layers"][: 2 if config["bidirectional"] else 1]
    reverse = None
    if config["proj"] and config["bidirectional"]:
        times = graph.times(frames)
        turned = graph.node("Sub", [graph.last(), times])
        reverse = graph.node("Where", [graph.node("LessOrEqual", [times, graph.last()]), turned, times])
    for number in range(config["layers"]):
        layers = [f"{name}.{number}" for name in names]
        if config["proj"]:
            x = _projected(graph, x, layers, reverse)
        else:
            x = _standard(graph, x, lengths, layers, config["hidden"])
        if config["layer_norm"]:
            scale, bias = (graph.arrays[f"norms.{number}.{part}"] for part in ("weight", "bias"))
            x = graph.node("LayerNormalization", [x, scale, bias], axis=-1, epsilon=_NORM_EPSILON)
    if config["delay"]:
        x = graph.node("Slice", [x, [config["delay"]], [2**62], [1]])
    return graph.linear(x, "output")


def _standard(graph: _Graph, x: str, lengths: str, layers: Sequence[str], hidden: int) -> str:
    """Return x [B, T, D] -> [B, T, hidden x directions] by ONNX's LSTM, which is time first."""
    parts = [[graph.arrays[f"{layer}.{part}_l0"] for layer in layers]
             for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]  # fmt: skip
    w_ih, w_hh, b_ih, b_hh = (np.stack([_onnx_gates(array) for array in part]) for part in parts)
    inputs: Inputs = [
        graph.node("Transpose", [x], perm=[1, 0, 2]), w_ih, w_hh, np.concatenate([b_ih, b_hh], axis=1),
        graph.node("Cast", [lengths], to=6),
    ]  # fmt: skip
    direction = "bidirectional" if len(layers) == 2 else "forward"
    y = graph.node("LSTM", inputs, hidden_size=hidden, direction=direction)  # [T, directions, B, hidden]
    y = graph.node("Transpose", [y], perm=[2, 0, 1, 3])
    return graph.node("Reshape", [y, [0, 0, len(layers) * hidden]])


def _onnx_gates(array: np.ndarray) -> np.ndarray:
    i, f, g, o = np.split(array, 4)
    return np.concatenate([i, o, f, g])


def _projected(graph: _Graph, x: str, layers: Sequence[str], reverse: Optional[str]) -> str:
    """Return x [B, T, D] -> [B, T, projection x directions]; reverse [B, T]: turns utterances round."""
    outputs = []
    for layer, index in zip(layers, (None, reverse)):
        read = x if index is None else graph.take(x, index)
        y = _projected_direction(graph, read, layer)
        outputs.append(y if index is None else graph.take(y, index))
    return graph.node("Concat", outputs, axis=2)


def _projected_direction(graph: _Graph, x: str, layer: str) -> str:
    """Return h of one direction, [B, T, projection]: h[t] = W_hr (o * tanh(c[t])), else the recursion of
    recurrence.py."""
    import onnx

    w_ih, w_hh, w_hr, b_ih, b_hh = (
        graph.arrays[f"{layer}.{part}_l0"] for part in ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
    )
    proj, hidden = w_hr.shape
    gates = graph.node("Add", [graph.node("MatMul", [x, w_ih.T]), b_ih + b_hh])
    body = _Graph(graph.arrays, f"{layer}.")  # a name stands for one value in the whole file
    a = body.node("Add", ["gates_t", body.node("MatMul", ["h_before", w_hh.T])])
    i, f, g, o = (body.slice(a, k * hidden, (k + 1) * hidden, 1) for k in range(4))
    i, f, o = (body.node("Sigmoid", [part]) for part in (i, f, o))
    new = body.node("Mul", [i, body.node("Tanh", [g])])
    c = body.node("Add", [body.node("Mul", [f, "c_before"]), new], output="c_now")
    h = body.node("MatMul", [body.node("Mul", [o, body.node("Tanh", [c])]), w_hr.T], output="h_now")
    body.node("Identity", [h], output="h_t")
    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    sizes = {"h_before": proj, "c_before": hidden, "gates_t": 4 * hidden}
    scanned = onnx.helper.make_graph(
        body.nodes,
        layer,
        [value(name, floats, ["batch", size]) for name, size in sizes.items()],
        [value(name, floats, ["batch", sizes[like]])
         for name, like in (("h_now", "h_before"), ("c_now", "c_before"), ("h_t", "h_before"))],
        body.initializers,
    )  # fmt: skip
    batch = graph.node("Unsqueeze", [graph.size("features", 0), [0]])
    zeros = [
        graph.node("Expand", [np.zeros((1, size), np.float32), graph.node("Concat", [batch, [size]], axis=0)])
        for size in (proj, hidden)
    ]
    last = graph.node(
        "Scan", [*zeros, gates], outputs=3, body=scanned, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1]
    )
    return f"{last}.2"


# ------------------------------------------------------------------ TDNN-F


def _tdnnf(graph: _Graph, config: Mapping[str, Any]) -> str:
    fine_dim = config["input_dim"] // _STACK
    fine_layers = sum(stride == 1 for stride in config["strides"])
    coarse = _Neighbours(graph, graph.size("features", 1), "lengths")
    fine = _Neighbours(
        graph, graph.node("Mul", [graph.size("features", 1), _STACK]), graph.node("Mul", ["lengths", _STACK])
    )
    x = graph.node("Reshape", [graph.normalised(), [0, -1, fine_dim]])
    parts = [x]
    for _ in range(config["context"]):
        parts = [fine.before(parts[0]), *parts, fine.after(parts[-1])]
    x = _normed(graph, graph.linear(graph.node("Concat", parts, axis=2), "first.affine"), "first.norm")
    for number, stride in enumerate(config["strides"]):
        neighbours = fine if number < fine_layers - 1 else coarse
        x = _factored(graph, x, config, f"factored.{number}", stride, number == fine_layers - 1, neighbours)
    x = graph.node("MatMul", [x, graph.arrays["linear"].T])
    x = _normed(graph, graph.linear(x, "output_prefinal.affine"), "output_prefinal.norm")
    x = graph.node("MatMul", [x, graph.arrays["output_prefinal.linear"].T])
    return graph.linear(_batch_norm(graph, x, "output_prefinal.last_norm"), "output")


class _Neighbours:
    """Frames t - 1 and t + 1 in the place of t, [B, T, D]; at an utterance's ends the frame itself."""

    def __init__(self, graph: _Graph, frames: str, lengths: str) -> None:
        self.graph = graph
        last = graph.node("Sub", [graph.node("Unsqueeze", [lengths, [1]]), 1])
        self.is_last = graph.node("Unsqueeze", [graph.node("Equal", [graph.times(frames), last]), [2]])

    def before(self, x: str) -> str:
        return self.graph.node("Concat", [self.graph.slice(x, 0, 1, 1), self.graph.slice(x, 0, -1, 1)], axis=1)

    def after(self, x: str) -> str:
        graph = self.graph
        later = graph.node("Concat", [graph.slice(x, 1, 2**62, 1), graph.slice(x, -1, 2**62, 1)], axis=1)
        return graph.node("Where", [self.is_last, x, later])


def _factored(
    graph: _Graph, x: str, config: Mapping[str, Any], name: str, stride: int, middle: bool, neighbours: _Neighbours
) -> str:  # fmt: skip
    linear, bottleneck = graph.arrays[f"{name}.linear"], config["bottleneck"]
    if not stride:
        z = graph.node("MatMul", [x, linear.T])
    else:
        before, now = np.split(linear, 2, axis=1)
        early, here = (graph.node("MatMul", [x, part.T]) for part in (before, now))  # A x, B x
        if middle:
            early, here, threes = (
                graph.node("Reshape", [part, [0, -1, _STACK, size]])
                for part, size in ((early, bottleneck), (here, bottleneck), (x, config["hidden"]))
            )
            z = graph.node("Add", [graph.slice(early, 0, 2, 2), graph.slice(here, 1, 3, 2)])
            z = graph.node("Reshape", [z, [0, 0, 2 * bottleneck]])
            x = graph.node("Gather", [threes, 1], axis=2)
        else:
            z = graph.node("Add", [neighbours.before(early), here])
            z = graph.node("Concat", [z, neighbours.after(z)], axis=2)
    y = _normed(graph, graph.linear(z, f"{name}.affine"), f"{name}.norm")
    return graph.node("Add", [y, graph.node("Mul", [x, float(config["bypass"])])])


def _normed(graph: _Graph, x: str, norm: str) -> str:
    return _batch_norm(graph, graph.node("Relu", [x]), norm)


def _batch_norm(graph: _Graph, x: str, name: str) -> str:
    """Return (x - M) / sqrt(V + epsilon), as one product and one sum."""
    scale = 1.0 / np.sqrt(graph.arrays[f"{name}.variance"].astype(np.float64) + _BATCH_NORM_EPSILON)
    x = graph.node("Mul", [x, scale])
    return graph.node("Add", [x, -graph.arrays[f"{name}.mean"] * scale])


_WRITERS = {"lstm": _lstm, "tdnnf": _tdnnf}
