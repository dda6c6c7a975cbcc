"""A network cut in two before one of its last stages, by its graph: torch.fx records what the network computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable

from timm.models._features_fx import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn

from medsynth.contracts import Features


class NotTraceable(Exception):
    """torch.fx cannot record what this network computes, or not as something that can be cut there."""


@dataclasses.dataclass(frozen=True)
class Split:
    """``whole(images) == after(whole, *before(whole, images))`` for a ``whole`` module, here always a ``Pooled``.

    The functions hold no weights. They look them up in the module that they are given, which may be a copy of the one
    that was cut, or on another device. ``trained`` are the names of the weights that ``after`` alone depends on.
    """

    before: Callable[[nn.Module, Tensor], Features]
    after: Callable[..., Tensor]
    trained: frozenset[str]


class Pooled(nn.Module):
    """A timm network without classifier, as a part of a module: ``(N, C, H, W) -> (N, num_features)``."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def split(network: nn.Module, module: str) -> Split:
    """Cut a timm network behind the output of ``module``, a dotted name in it. The network stays as it is.

    What this output depends on comes before the cut, all else after it. Where the cells of a network see the outputs
    of more than one cell before them, more than one value crosses.

    Raises:
        NotTraceable: it cannot be cut there.
    """
    whole = Pooled(network)
    graph, cut = _trace(whole, f"network.{module}")
    (images,) = (node for node in graph.nodes if node.op == "placeholder")
    first = _ancestors([cut])
    rest = _ancestors([graph.output_node()]) - first  # checks of sizes, and what else nothing depends on, stay out
    crossing = [node for node in graph.nodes if node in first and not rest.isdisjoint(node.users)]
    # What is cheap to compute from other values that cross need not cross: an activation; a look-up of a weight.
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
    """Looks into all modules but PyTorch's own and those that timm says cannot be looked into; notes one's output."""

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
    """The graph, and the node of the module's output in it."""
    tracer = _Tracer(module)
    try:
        graph = tracer.trace(whole)
        graph.lint()  # some networks keep what they computed before, here a placeholder of another graph
    except Exception as error:  # from whatever code of the network meets a placeholder instead of a tensor
        raise NotTraceable(str(error)) from error
    if tracer.output is None:
        raise NotTraceable(f"{module} is not called")
    for node in graph.nodes:
        if node.op == "get_attr" and not node.target.startswith("network."):
            raise NotTraceable("a tensor was made while it was recorded")
        if "inplace" in node.kwargs:  # must not overwrite what crosses
            node.update_kwarg("inplace", False)
    return graph, tracer.output


def _ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes, and all that they depend on."""
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
    """Names of the parameters that the nodes use."""
    targets = {node.target for node in nodes if node.op in ("get_attr", "call_module")}
    return {
        name
        for name, _ in whole.named_parameters()
        if any(name == target or name.startswith(f"{target}.") for target in targets)
    }


def _function(nodes: Iterable[fx.Node], *, inputs: Collection[fx.Node], outputs: fx.node.Argument) -> Callable:
    """``(whole, *inputs) -> outputs``, of a part of a graph."""
    part = fx.Graph()
    copies = {node: part.placeholder(node.name) for node in inputs}
    for node in nodes:
        if node not in copies and node.op != "output":
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(fx.map_arg(outputs, copies.__getitem__))
    code = part.python_code("self")
    namespace = dict(code.globals)
    exec(code.src, namespace)
    return namespace["forward"]
