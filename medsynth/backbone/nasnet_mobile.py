"""``nasnet_mobile``: NASNet-A mobile, built from the cells of timm's large network."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.layers.classifier import create_classifier
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.pool2d_same import AvgPool2dSame
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from timm.models.nasnet import CellStem0, CellStem1, FirstCell, NormalCell, ReductionCell0, ReductionCell1
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

WIDTH = 44  # channels of a branch of the first stack; 24 times that are the features
STEM = 32  # channels of the first convolution
# Names as in the PyTorch port of the published weights (nasnetamobile-7e03cead.pth), so that its files load by path.
# The gaps in the numbers are the large network's, which has six cells in a stack instead of four.
STACKS = (
    ("cell_0", "cell_1", "cell_2", "cell_3"),
    ("cell_6", "cell_7", "cell_8", "cell_9"),
    ("cell_12", "cell_13", "cell_14", "cell_15"),
)
REDUCTIONS = ("reduction_cell_0", "reduction_cell_1")


class AveragePool(nn.Module):
    """3x3 mean with stride 2, padded like TensorFlow: (N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)).

    At the border it averages the existing pixels, as in the original network; timm's layer includes padded zeros.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the means of maps (N, C, H, W)."""
        odd = (x.shape[-2] % 2, x.shape[-1] % 2)  # padded on both sides; an even side on its far end alone: ceil_mode
        return avg_pool2d(x, 3, stride=2, padding=odd, ceil_mode=True, count_include_pad=False)


class NASNetAMobile(nn.Module):
    """NASNet-A (4 @ 1056), Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition".

    A convolution, two reducing stem cells, and three stacks of four cells with a reducing cell before the second and
    the third. Each cell sees the outputs of the two cells before it. As in Keras's NASNetMobile, and unlike its
    NASNetLarge, the cell after a reduction sees the input of the reduction, not the cell before that.
    5,326,716 parameters with 1,000 classes, 4,269,716 without classifier, both with running statistics.

    The arguments and methods are those of timm's networks.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
        pad_type: str = "same",
    ):
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = 24 * WIDTH
        norm = partial(nn.BatchNorm2d, eps=1e-3)
        self.conv0 = ConvNormAct(in_chans, STEM, 3, stride=2, padding=0, norm_layer=norm, apply_act=False)
        self.cell_stem_0 = CellStem0(STEM, WIDTH // 4, pad_type)
        self.cell_stem_1 = CellStem1(STEM, WIDTH // 2, pad_type)
        before, entering = WIDTH, 2 * WIDTH  # channels of the two stem cells' outputs
        for index, names in enumerate(STACKS):
            width = WIDTH * 2**index
            if index:
                reduction = (ReductionCell0, ReductionCell1)[index - 1]
                setattr(self, REDUCTIONS[index - 1], reduction(before, width, entering, width, pad_type))
                before, entering = entering, 4 * width
            for cell, name in zip((FirstCell, *[NormalCell] * 3), names, strict=True):
                left = width // 2 if cell is FirstCell else width  # the first has two paths on this side
                setattr(self, name, cell(before, left, entering, width, pad_type))
                before, entering = entering, 6 * width
        for cell in self.children():
            for name, layer in cell.named_children():
                if isinstance(layer, AvgPool2dSame):
                    setattr(cell, name, AveragePool())
        self.act = nn.ReLU()
        self.feature_info = [
            {"num_chs": STEM, "reduction": 2, "module": "conv0"},
            {"num_chs": WIDTH, "reduction": 4, "module": "cell_stem_1.conv_1x1.act"},
            {"num_chs": 6 * WIDTH, "reduction": 8, "module": "reduction_cell_0.conv_1x1.act"},
            {"num_chs": 12 * WIDTH, "reduction": 16, "module": "reduction_cell_1.conv_1x1.act"},
            {"num_chs": 24 * WIDTH, "reduction": 32, "module": "act"},
        ]
        self.drop_rate = drop_rate
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        """Return the layer from pooled features to logits."""
        return self.last_linear

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a random one, and optionally the kind of pooling before it."""
        self.num_classes = num_classes
        pool = self.global_pool.pool_type if global_pool is None else global_pool
        layers = create_classifier(self.num_features, num_classes, pool_type=pool, drop_rate=self.drop_rate)
        self.global_pool, self.head_drop, self.last_linear = layers  # pyright: ignore  # three, with drop_rate
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()

    def _stages(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the stem convolution, the first stem cell and each stack, before their activation."""
        stem = self.conv0(x)
        previous = self.cell_stem_0(stem)
        outputs = [stem, previous]
        x = self.cell_stem_1(stem, previous)
        for index, names in enumerate(STACKS):
            if index:
                previous, x = x, getattr(self, REDUCTIONS[index - 1])(x, previous)
            for name in names:
                previous, x = x, getattr(self, name)(x, previous)
            outputs.append(x)
        return outputs

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the maps after the chosen levels, the finest first, activated as the next cell sees them.

        Args:
            x: images (N, C, H, W), standardized.
            indices: of the levels; an int: the last so many; None: all five.
            norm: not supported; the network has no normalization at its end.
            stop_early: without effect; all levels are computed.
            output_fmt: NCHW only.
            intermediates_only: return the maps alone, without the network's last one.
        """
        assert output_fmt == "NCHW"
        assert not norm
        taken, _ = feature_take_indices(len(self.feature_info), indices)
        outputs = self._stages(x)
        maps = [relu(output) if index else output for index, output in enumerate(outputs) if index in taken]
        return maps if intermediates_only else (self.act(outputs[-1]), maps)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the maps of the last stack (N, 1056, H / 32, W / 32)."""
        return self.act(self._stages(x)[-1])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits from the last maps, or with ``pre_logits`` the pooled features (N, 1056)."""
        x = self.head_drop(self.global_pool(x))
        return x if pre_logits else self.last_linear(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes), or the pooled features where there is no classifier."""
        return self.forward_head(self.forward_features(x))


default_cfgs = generate_default_cfgs(
    {
        "nasnet_mobile": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "conv0.conv",
            "classifier": "last_linear",
        }
    }
)


@register_model
def nasnet_mobile(pretrained: bool = False, **arguments: Any) -> NASNetAMobile:
    """Create the network, of which timm publishes no weights; the arguments are timm's."""
    return build_model_with_cfg(NASNetAMobile, "nasnet_mobile", pretrained, **arguments)
