"""Which operations a MindIR file holds, with the dtypes of what goes in and comes out, subgraphs and loops included."""

import collections
import dataclasses

from mindspore.train import mind_ir_pb2

NAMES = {"float": "float32", "double": "float64", "undefined": "none"}


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation as it is used somewhere.

    Attributes:
        name (str): of the primitive.
        inputs, outputs (tuple[str]): dtypes of the tensors in it; inputs that are no tensors are "".
    """

    name: str
    inputs: tuple
    outputs: tuple


def operations(path):
    """The operations of a graph: Counter of `Operation`. Calls of subgraphs are not counted, what is in them is.

    Args:
        path (str): a .mindir file.
    """
    model = mind_ir_pb2.ModelProto()
    with open(path, "rb") as file:
        model.ParseFromString(file.read())
    graphs = [model.graph, *model.functions]
    primitives = {primitive.name: primitive.op_type for primitive in model.primitives}
    subgraphs = {graph.name for graph in graphs}
    dtypes = {}
    for graph in graphs:
        for entry in graph.input:
            dtypes[entry.name] = tuple(_dtype(tensor) for tensor in entry.tensor)
        for tensor in graph.parameter:
            dtypes[tensor.name] = (_dtype(tensor),)
        for node in graph.node:
            dtypes[node.name] = _outputs(node)
    found = collections.Counter()
    for graph in graphs:
        for node in graph.node:
            name = primitives.get(node.op_type.removeprefix("REF::"))
            if name is None:
                if node.op_type != "Constant" and not _is_call(node, subgraphs):
                    raise ValueError(f"{path} holds a node of an unknown kind, {node.op_type!r}; teach this script")
                continue
            inputs = tuple("/".join(sorted(set(dtypes.get(one, ())))) for one in node.input)
            found[Operation(name, inputs, dtypes[node.name])] += 1
    return found


def _is_call(node, subgraphs):
    """Whether a node calls a subgraph, or what another node made of one (as Switch and Partial do)."""
    callee = node.op_type.removeprefix("REF::")
    return callee in subgraphs or any(callee.startswith(f"{graph}:") for graph in subgraphs)


def _outputs(node):
    """Dtypes of a node's tensors."""
    kept = "value" if node.op_type == "Constant" else "shape"
    return tuple(dtype for attribute in node.attribute if attribute.name == kept for dtype in _within(attribute))


def _within(attribute):
    own = tuple(_dtype(tensor) for tensor in attribute.tensors)
    return own + tuple(dtype for value in attribute.values for dtype in _within(value))


def _dtype(tensor):
    name = mind_ir_pb2.TensorProto.DataType.Name(tensor.data_type).lower()
    return NAMES.get(name, name)
