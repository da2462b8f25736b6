"""Networks, and what a meta step on them must give, written with autograd alone."""

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.func import functional_call

from lightning_taskonomy.models.backbones import SplitVGG
from lightning_taskonomy.models.heads import SplitVGGHead
from lightning_taskonomy.optim import (
    Branch,
    HeldOut,
    LowRank,
    MetaBatch,
    MetaOptions,
    Normalized,
    OptimizerStep,
    meta_gradient,
)
from lightning_taskonomy.tasks import find

ALPHA = 0.1
OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "sgd-momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.2, weight_decay=0.1),
    "sgd-nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.8, nesterov=True, maximize=True, foreach=True),
    "adam": lambda p: optim.Adam(p, 0.1, weight_decay=0.1),
    "adam-amsgrad": lambda p: optim.Adam(p, 0.1, betas=(0.8, 0.9), amsgrad=True, foreach=True),
    "adam-maximize": lambda p: optim.Adam(p, 0.1, maximize=True, weight_decay=0.1, fused=True),
    "adamw": lambda p: optim.AdamW(p, 0.1, weight_decay=0.1),
    "adamw-amsgrad": lambda p: optim.AdamW(p, 0.1, amsgrad=True, fused=True),
    "adamw-beta-0": lambda p: optim.AdamW(p, 0.1, betas=(0.9, 0.0)),
    "nadam": lambda p: optim.NAdam(p, 0.1, weight_decay=0.1, foreach=True),
    "nadam-decoupled": lambda p: optim.NAdam(p, 0.1, weight_decay=0.1, decoupled_weight_decay=True),
    "rmsprop": lambda p: optim.RMSprop(p, 0.1, weight_decay=0.1),
    "rmsprop-centred": lambda p: optim.RMSprop(p, 0.1, momentum=0.9, centered=True, foreach=True),
    "adagrad": lambda p: optim.Adagrad(p, 0.1, lr_decay=0.3, weight_decay=0.1),
    "adagrad-start": lambda p: optim.Adagrad(p, 0.1, initial_accumulator_value=0.2, maximize=True, foreach=True),
}


class Timm(nn.Module):
    def __init__(self, name: str, **options):
        super().__init__()
        self.network = timm.create_model(name, features_only=True, **options)
        self.channels = self.network.feature_info.channels()

    def forward(self, image):
        return self.network(image)


class EncoderDecoder(nn.Module):
    """SplitVGG in small: pooling with indices, unpooling or bilinear upsampling; hands the last indices on."""

    channels = (6,)

    def __init__(self, unpool: bool):
        super().__init__()
        self.unpool = unpool
        self.down = nn.ModuleList([self.block(3, 4), self.block(4, 8)])
        self.up = nn.ModuleList([self.block(8, 6)])

    @staticmethod
    def block(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def forward(self, image):
        indices = []
        for block in self.down:
            image, where = F.max_pool2d(block(image), 2, return_indices=True)
            indices.append(where)
        if self.unpool:
            image = F.max_unpool2d(image, indices.pop(), 2)
        else:
            image = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
        return [self.up[0](image), indices[0]]


class Separable(nn.Module):
    """Separable and transposed convolutions with dropout; bias of a layer nobody reads, and a frozen one."""

    channels = (6, 5)

    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3)
        self.norm = nn.BatchNorm2d(6)
        self.pointwise = nn.Conv2d(6, 6, 1, bias=False)
        self.drop = nn.Dropout2d(0.3)
        self.transposed = nn.ConvTranspose2d(6, 5, 2, stride=2)
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Conv2d(6, 6, 1)
        self.frozen.requires_grad_(False)

    def forward(self, image):
        inner = self.drop(F.relu(self.pointwise(self.norm(self.depthwise(image)))))
        return {"coarse": self.frozen(inner).tanh(), "fine": self.transposed(inner)}


class Own(nn.Module):
    """A user's: no convolution, group normalization, one tensor."""

    channels = (8,)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.GroupNorm(2, 8),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Conv2d(8, 8, 1),
            nn.Softplus(),
        )

    def forward(self, image):
        return self.layers(image)


class Split(SplitVGG):
    """The library's SplitVGG, the task heads included, at a small width."""

    def __init__(self, unpooling: bool):
        super().__init__(3, unpooling, width=4)
        self.channels = self.out_channels

    def head(self, outputs: int) -> nn.Module:
        task = find({3: "normals", 4: "nyuv2.semantic_segmentation"}[outputs])
        return SplitHead(SplitVGGHead(self.out_channels, self.reductions, task, unpooling=self.unpooling))


class SplitHead(nn.Module):
    """Means of a quarter of the prediction each, as the losses want it."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, features):
        return self.head(features, (32, 32)).mean((2, 3))


NARROW = {"channels": (8, 16, 32, 64), "stem_width": 16, "zero_init_last": False}  # of a ResNet; else 64 to 512
NETWORKS = {
    "resnet": (lambda: Timm("test_resnet"), 32),
    "resnet18": (lambda: Timm("resnet18", out_indices=(3, 4), **NARROW), 32),
    "resnet50": (lambda: Timm("resnet50", out_indices=(4,), **NARROW), 32),
    "hrnet": (lambda: Timm("hrnet_w18_small", feature_location="", out_indices=(1, 2, 3, 4)), 32),
    "vgg": (lambda: Split(False), 32),
    "vgg-unpooling": (lambda: Split(True), 32),
    "unpooling": (lambda: EncoderDecoder(True), 16),
    "bilinear": (lambda: EncoderDecoder(False), 16),
    "separable": (Separable, 16),
    "own": (Own, 16),
}


def tensors(features) -> list[torch.Tensor]:
    """The differentiable maps, in order."""
    if isinstance(features, torch.Tensor):
        features = [features]
    if isinstance(features, dict):
        features = list(features.values())
    return [entry for entry in features if entry.is_floating_point()]


def replaced(features, maps):
    """The features with other differentiable maps in their place."""
    if isinstance(features, torch.Tensor):
        return maps[0]
    if isinstance(features, dict):
        return dict(zip(features, maps, strict=True))
    rest = iter(maps)
    return [next(rest) if entry.is_floating_point() else entry for entry in features]


class Head(nn.Module):
    """Convolution, batch norm, dropout of every map; pooled and added."""

    def __init__(self, channels: Sequence[int], outputs: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 5, 1), nn.BatchNorm2d(5), nn.Tanh(), nn.Conv2d(5, outputs, 1)) for c in channels
        )

    def forward(self, features):
        maps = zip(self.layers, tensors(features), strict=True)
        return sum(layer(entry).mean((2, 3)) for layer, entry in maps)


class Setting:
    """A network with heads, data and projections in float64."""

    def __init__(self, make, size, tasks=1, train=True, batch=4, memory_format=torch.contiguous_format):
        torch.manual_seed(0)
        self.backbone = make().double().train(train).to(memory_format=memory_format)
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.weight, 0.3, 1)
                nn.init.normal_(module.bias, std=0.1)
        channels = self.backbone.channels
        make_head = getattr(self.backbone, "head", lambda outputs: Head(channels, outputs))
        self.heads = [make_head(3).double().train(train) for _ in range(tasks)]
        self.primary_head = make_head(4).double().train(train)
        self.image = torch.randn(batch, 3, size, size, dtype=torch.float64).to(memory_format=memory_format)
        self.targets = [torch.randn(batch, 3, dtype=torch.float64) for _ in range(tasks)]
        self.classes = torch.randint(4, (batch,))
        self.projections = {
            f"task{index}": [LowRank(c, min(3, c), scale=1.0).double() for c in channels] for index in range(tasks)
        }
        self.step, self.advance = ALPHA, lambda p, d: p.detach() - ALPHA * d  # the virtual step: ours, and Θ⁺ by d
        self.held_out = None  # images and classes
        for parameter in self.phi():
            parameter.data += 0.2 * torch.randn_like(parameter)

    def phi(self):
        return [p for of_task in self.projections.values() for projection in of_task for p in projection.parameters()]

    def learning(self):
        return {name: p for name, p in self.backbone.named_parameters() if p.requires_grad}

    def auxiliary_loss(self, index, features, part=slice(None)):
        return F.l1_loss(self.heads[index](features), self.targets[index][part])

    def primary_loss(self, features, part=slice(None)):
        return F.cross_entropy(self.primary_head(features), self.classes[part])

    def batch(self, part=slice(None)):
        auxiliary = {
            f"task{index}": Branch(lambda features, index=index: self.auxiliary_loss(index, features, part), head)
            for index, head in enumerate(self.heads)
        }
        primary = Branch(lambda features: self.primary_loss(features, part), self.primary_head)
        held_out = None
        if self.held_out is not None:
            image, classes = (entry[part] for entry in self.held_out)
            there = Branch(lambda features: F.cross_entropy(self.primary_head(features), classes), self.primary_head)
            held_out = HeldOut((image,), {}, there)
        return MetaBatch((self.image[part],), auxiliary, primary, held_out=held_out)

    def ours(self, *parts, reduce=list, **options):
        torch.manual_seed(1)
        batches = [self.batch(part) for part in parts or (slice(None),)]
        return meta_gradient(self.backbone, batches, self.projections, self.step, MetaOptions(**options), reduce)

    def virtual(self, factor=1.0, create_graph=False):
        """Θ⁺ by the parameters at Θ, and L_P there, written with autograd alone."""
        torch.manual_seed(1)
        learning, buffers = self.learning(), dict(self.backbone.named_buffers())

        def features(parameters, image):
            copies = {name: value.clone() for name, value in buffers.items()}
            return functional_call(self.backbone, {**parameters, **copies}, (image,))

        output = features(learning, self.image)
        maps = tensors(output)
        projected = [torch.zeros_like(entry) for entry in maps]
        for index in range(len(self.heads)):
            leaves = [entry.detach().requires_grad_() for entry in maps]  # a later map may be made from an earlier one
            loss = self.auxiliary_loss(index, replaced(output, leaves))
            for position, (phi, gradient) in enumerate(
                zip(self.projections[f"task{index}"], torch.autograd.grad(loss, leaves), strict=True)
            ):
                low_rank = phi.projection if isinstance(phi, Normalized) else phi
                matrix = torch.diag(low_rank.diagonal) + low_rank.factor @ low_rank.factor.T
                turned = torch.einsum("cd,bdhw->bchw", matrix, gradient)
                if isinstance(phi, Normalized):
                    turned = turned * (gradient.square().sum() / turned.square().sum()).sqrt()
                projected[position] = projected[position] + factor * turned
        inner = sum((entry * g).sum() for entry, g in zip(maps, projected, strict=True))
        pulled = torch.autograd.grad(inner, list(learning.values()), create_graph=create_graph, allow_unused=True)
        ahead = {
            name: p.detach().requires_grad_() if d is None else self.advance(p, d).requires_grad_()
            for (name, p), d in zip(learning.items(), pulled, strict=True)
        }
        torch.manual_seed(1)
        if self.held_out is None:
            return ahead, self.primary_loss(features(ahead, self.image))
        image, classes = self.held_out
        return ahead, F.cross_entropy(self.primary_head(features(ahead, image)), classes)

    def reference(self, factor=1.0):
        """Double backward through the virtual update: gradients of φ, of the backbone at Θ⁺, of the primary head."""
        ahead, loss = self.virtual(factor, create_graph=True)
        heads, count = list(self.primary_head.parameters()), len(self.phi())
        gradients = torch.autograd.grad(loss, [*self.phi(), *ahead.values(), *heads], allow_unused=True)
        network = zip([*self.learning().values(), *heads], gradients[count:], strict=True)
        return gradients[:count], {p: g for p, g in network if g is not None}


def relative_error(ours, reference) -> float:
    ours, reference = (torch.cat([t.reshape(-1) for t in side]) for side in (list(ours), list(reference)))
    return float((ours - reference).norm() / reference.norm())


def assert_same(result, reference, bound=1e-9):
    projections, network = reference
    assert all((gradient != 0).any() for gradient in projections)
    assert relative_error(result.projections.values(), projections) <= bound
    assert set(result.network) == set(network)
    assert relative_error(result.network.values(), [network[p] for p in result.network]) <= bound


def trained(name, parameters, steps):
    """An optimizer of two groups with rates of their own after some steps with random gradients."""
    parameters = list(parameters)
    optimizer = OPTIMIZERS[name]([{"params": parameters[::2]}, {"params": parameters[1::2], "lr": 0.03, "eps": 1e-3}])
    for _ in range(steps):
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = 0.1 * torch.randn_like(p)
        optimizer.step()
        for p, value in zip(parameters, before, strict=True):
            p.grad = None
            p.data.copy_(value)  # the network stays where its gradients are of a size
    return optimizer


def after_step(optimizer, parameter, d, **choices):
    """Θ⁺ of a real step of torch's, the state after it, and the settings."""
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    moved = parameter.detach().clone()
    other = type(optimizer)([moved], **choices)
    other.param_groups[0].update({**group, "params": [moved], "foreach": False, "fused": False, **choices})
    state = optimizer.state.get(parameter, {})
    if state:
        other.state[moved] = {k: v.double().clone() if v is not None else v for k, v in state.items()}
    elif isinstance(optimizer, optim.SGD):  # the same, but torch cuts the first gradient in the buffer off the graph
        other.param_groups[0]["dampening"] = 0.0
        other.state[moved]["momentum_buffer"] = torch.zeros_like(moved)
    moved.grad = d
    other.step()
    return moved, other.state[moved], group


def full(optimizer):
    """Θ⁺ by torch's own optimizer, which autograd can differentiate."""
    return lambda p, d: after_step(optimizer, p, d, differentiable=True)[0]


def scaled(optimizer):
    """Θ⁺ = Θ - α·P·d with P from torch's state after a step, held fixed."""

    def advance(p, d):
        _, state, group = after_step(optimizer, p, d.detach())
        rate, second = group["lr"] * (-1 if group["maximize"] else 1), None
        if isinstance(optimizer, (optim.Adam, optim.NAdam)):
            second = state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
            second = second / (1 - group["betas"][1] ** float(state["step"]))
        if isinstance(optimizer, optim.RMSprop):
            second = state["square_avg"] - (state["grad_avg"] ** 2 if group["centered"] else 0)
        if isinstance(optimizer, optim.Adagrad):
            rate, second = rate / (1 + (float(state["step"]) - 1) * group["lr_decay"]), state["sum"]
        return p.detach() - rate * d / (1 if second is None else second.sqrt() + group["eps"])

    return advance


def descended(optimizer):
    """Θ⁺ = Θ - α·d, or Θ + α·d of an optimizer that maximizes."""
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    return lambda p, d: p.detach() - groups[p]["lr"] * (-d if groups[p]["maximize"] else d)


REFERENCES = {"optimizer": scaled, "full": full, "gradient": descended}


def virtual(setting, name, inner, steps=2, eps=None):
    """The setting with an optimizer's step, ours and the reference; with one ε in all groups that have any."""
    torch.manual_seed(2)
    optimizer = trained(name, setting.learning().values(), steps)
    for group in optimizer.param_groups if eps is not None else ():
        group.update({"eps": eps} if "eps" in group else {})
    setting.step, setting.advance = OptimizerStep(optimizer, inner), REFERENCES[inner](optimizer)
    return setting
