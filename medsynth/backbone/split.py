"""Split a network in two before one of its last stages, by the graph of operations that torch.fx records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable

from timm.models._features_fx import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.fx.node import Argument

from medsynth.backbone.timm_network import TimmNetwork
from medsynth.contracts import Features


class NotTraceable(Exception):
    """torch.fx cannot record the operations of this network, or not in a form that can be split there."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Two functions such that ``whole(images) == after(whole, *before(whole, images))``; ``whole`` is a ``Pooled``.

    The functions hold no weights. They look them up in the module that is given to them, which may be a copy of the
    one that was split, or on another device.

    Attributes:
        before: ``(whole, images)`` -> the values that cross the split.
        after: ``(whole, *values)`` -> pooled features.
        trained: names of the parameters that ``after`` depends on and ``before`` does not.
    """

    before: Callable[[nn.Module, Tensor], Features]
    after: Callable[..., Tensor]
    trained: frozenset[str]


class Pooled(nn.Module):
    """A timm network without classifier, inside a module: ``(N, C, H, W) -> (N, num_features)``."""

    def __init__(self, network: TimmNetwork):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features (N, num_features)."""
        return self.network(images)


def split(network: TimmNetwork, module: str) -> Split:
    """Split a timm network after the output of ``module``, a dotted name in it; the network itself stays unchanged.

    Operations that this output depends on come before the split, all others after it. If a network's cells see the
    outputs of more than one earlier cell, more than one value crosses.

    Raises:
        NotTraceable: it cannot be split there.
    """
    whole = Pooled(network)
    graph, cut = _trace(whole, f"network.{module}")
    (images,) = (node for node in graph.nodes if node.op == "placeholder")
    first = _ancestors([cut])
    rest = _ancestors([graph.output_node()]) - first  # without checks of sizes and other unused operations
    crossing = [node for node in graph.nodes if node in first and not rest.isdisjoint(node.users)]
    # Values that are cheap to compute again from other crossing values need not cross: activations, weights.
    again = [node for node in crossing if _is_cheap(node, crossing, whole)]
    crossing = [node for node in crossing if node not in again]

    needed = _ancestors(crossing)
    before = [node for node in graph.nodes if node in needed]
    after = [node for node in graph.nodes if node in rest or node in again]
    return Split(
        before=_function(before, inputs=[images], outputs=tuple(crossing)),
        after=_function(after, inputs=crossing, outputs=graph.output_node().args[0]),
        trained=frozenset(_weights(after, whole) - _weights(before, whole)),
    )


class _Tracer(fx.Tracer):
    """Trace into all modules but PyTorch's own and those that timm excludes; note the output of one module."""

    def __init__(self, module: str):
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self.leaves = tuple(get_notrace_modules())
        self.module = module
        self.output: fx.Node | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward, args, kwargs):
        output = super().call_module(m, forward, args, kwargs)
        if isinstance(output, fx.Proxy) and self.path_of_module(m) == self.module:
            self.output = output.node
        return output


def _trace(whole: nn.Module, module: str) -> tuple[fx.Graph, fx.Node]:
    """Return the graph, and the node of the module's output in it."""
    tracer = _Tracer(module)
    try:
        graph = tracer.trace(whole)
        graph.lint()  # some networks cache a tensor of an earlier call, here a placeholder of another graph
    except Exception as error:  # any code of the network may fail on a placeholder instead of a tensor
        raise NotTraceable(str(error)) from error
    if tracer.output is None:
        raise NotTraceable(f"{module} is not called")
    for node in graph.nodes:
        if node.op == "get_attr" and not node.target.startswith("network."):
            raise NotTraceable("a tensor was created during the recording")
        if "inplace" in node.kwargs:  # a crossing value must not be overwritten
            node.update_kwarg("inplace", False)
    return graph, tracer.output


def _ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return the nodes and all nodes that they depend on."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _is_cheap(node: fx.Node, crossing: Collection[fx.Node], whole: nn.Module) -> bool:
    if node.op == "get_attr":
        return True
    inputs = node.all_input_nodes
    known = bool(inputs) and all(value in crossing and value.op != "get_attr" for value in inputs)
    return known and not _weights([node], whole)


def _weights(nodes: Iterable[fx.Node], whole: nn.Module) -> set[str]:
    """Return the names of the parameters that the nodes use."""
    targets = {node.target for node in nodes if node.op in ("get_attr", "call_module")}
    return {
        name
        for name, _ in whole.named_parameters()
        if any(name == target or name.startswith(f"{target}.") for target in targets)
    }


def _function(nodes: Iterable[fx.Node], *, inputs: Collection[fx.Node], outputs: Argument) -> Callable:
    """Compile some nodes of a graph to a function ``(whole, *inputs) -> outputs``."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in nodes:
        if node not in copies and node.op != "output":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(fx.map_arg(outputs, copies.__getitem__))
    code = graph.python_code("self")
    namespace = dict(code.globals)
    exec(code.src, namespace)
    return namespace["forward"]
