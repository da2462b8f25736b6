"""The meta-gradient against double backward, written here with autograd alone."""

from collections.abc import Sequence

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from lightning_taskonomy.models.backbones import SplitVGG
from lightning_taskonomy.models.heads import SplitVGGHead
from lightning_taskonomy.optim import Branch, LowRank, MetaBatch, MetaOptions, MetaStep, PassState, meta_gradient
from lightning_taskonomy.tasks import find

ALPHA = 0.1


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


class Growing(Own):
    """A buffer that moves with every pass and is felt in the output."""

    def __init__(self):
        super().__init__()
        self.register_buffer("gain", torch.ones(()))

    def forward(self, image):
        self.gain.mul_(1.5)
        return self.layers(image) * self.gain.clone()


class Spectral(Own):
    """Spectral normalization, whose power iteration runs under no_grad and moves with every pass."""

    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.spectral_norm(self.layers[0])


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
        return MetaBatch((self.image[part],), auxiliary, primary)

    def ours(self, *parts, reduce=list, **options):
        torch.manual_seed(1)
        batches = [self.batch(part) for part in parts or (slice(None),)]
        return meta_gradient(self.backbone, batches, self.projections, ALPHA, MetaOptions(**options), reduce)

    def virtual(self, factor=1.0, create_graph=False):
        """Θ⁺ by the parameters at Θ, and L_P there, written with autograd alone."""
        torch.manual_seed(1)
        learning, buffers = self.learning(), dict(self.backbone.named_buffers())

        def features(parameters):
            copies = {name: value.clone() for name, value in buffers.items()}
            return functional_call(self.backbone, {**parameters, **copies}, (self.image,))

        output = features(learning)
        maps = tensors(output)
        projected = [torch.zeros_like(entry) for entry in maps]
        for index in range(len(self.heads)):
            leaves = [entry.detach().requires_grad_() for entry in maps]  # a later map may be made from an earlier one
            loss = self.auxiliary_loss(index, replaced(output, leaves))
            for position, (phi, gradient) in enumerate(
                zip(self.projections[f"task{index}"], torch.autograd.grad(loss, leaves), strict=True)
            ):
                matrix = torch.diag(phi.diagonal) + phi.factor @ phi.factor.T
                projected[position] = projected[position] + factor * torch.einsum("cd,bdhw->bchw", matrix, gradient)
        inner = sum((entry * g).sum() for entry, g in zip(maps, projected, strict=True))
        pulled = torch.autograd.grad(inner, list(learning.values()), create_graph=create_graph, allow_unused=True)
        ahead = {
            name: p.detach().requires_grad_() if d is None else (p.detach() - ALPHA * d).requires_grad_()
            for (name, p), d in zip(learning.items(), pulled, strict=True)
        }
        torch.manual_seed(1)
        return ahead, self.primary_loss(features(ahead))

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


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_double_backward_gives_the_same(network, tasks, train):
    setting = Setting(*NETWORKS[network], tasks=tasks, train=train)
    result = setting.ours(inspect=True)  # and no operation is accused
    assert result.method == "forward" and result.reason == "" and result.consistent and result.finite
    assert result.consistency < 1e-11
    assert_same(result, setting.reference())


@pytest.mark.parametrize("network", [NETWORKS["unpooling"], NETWORKS["separable"], NETWORKS["own"]])
@pytest.mark.parametrize("method", ["double_vjp", "finite_difference"])
def test_the_other_methods_give_the_same(network, method):
    setting = Setting(*network, tasks=2)
    result = setting.ours(method=method)
    assert result.method == method
    assert_same(result, setting.reference(), 1e-9 if method == "double_vjp" else 1e-4)


@pytest.mark.parametrize("network", ["vgg-unpooling", "separable"])
def test_losses_alignment_and_the_auxiliary_heads_gradients(network):
    setting = Setting(*NETWORKS[network], tasks=2)
    ahead, loss = setting.virtual()
    heads = [list(head.parameters()) for head in setting.heads]
    torch.manual_seed(1)
    features = setting.backbone(setting.image)
    losses = [setting.auxiliary_loss(index, features) for index in range(2)]
    expected = [torch.autograd.grad(e, head, retain_graph=True) for e, head in zip(losses, heads, strict=True)]
    setting = Setting(*NETWORKS[network], tasks=2)
    result = setting.ours()
    assert float(result.primary_loss) == pytest.approx(float(loss.detach()), rel=1e-12)
    assert [float(e) for e in result.auxiliary_losses.values()] == pytest.approx([float(e.detach()) for e in losses])
    assert set(result.auxiliary) == {p for head in setting.heads for p in head.parameters()}
    for head, gradients in zip(setting.heads, expected, strict=True):
        assert relative_error([result.auxiliary[p] for p in head.parameters()], gradients) <= 1e-12
    learning = setting.learning()
    steps = [(p.detach() - ahead[name].detach()).flatten() for name, p in learning.items() if p in result.network]
    primary = [result.network[p].flatten() for p in learning.values() if p in result.network]
    cosine = float(torch.cosine_similarity(torch.cat(steps), torch.cat(primary), 0))
    assert result.alignment == pytest.approx(cosine, rel=1e-9) and result.alignment != 0


@pytest.mark.parametrize("options", [{}, {"inspect": True}, {"method": "double_vjp"}], ids=str)
@pytest.mark.parametrize("network", [Growing, Spectral])
def test_buffers_that_the_output_depends_on_are_as_in_the_first_pass(network, options):
    setting = Setting(network, 16, tasks=2)
    reference = setting.reference()  # it leaves the buffers alone
    assert_same(setting.ours(**options), reference)


def test_averaged_projected_gradients():
    setting = Setting(*NETWORKS["unpooling"], tasks=3)
    assert_same(setting.ours(combine="mean"), setting.reference(factor=1 / 3))


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("network", ["vgg", "vgg-unpooling", "unpooling", "bilinear", "separable", "own"])
def test_finite_differences_in_the_projection_agree(network, train):
    """Of L_P(Θ⁺(φ)), which takes first derivatives alone; exact to about 1e-10, the rounding of L_P over the step."""
    setting = Setting(*NETWORKS[network], tasks=2, train=train)
    for parameter, gradient in setting.ours().projections.items():
        direction = torch.randn_like(parameter)
        sides = []
        for step in (1e-6, -1e-6):
            parameter.data += step * direction
            sides.append(float(setting.virtual()[1].detach()))
            parameter.data -= step * direction
        expected = (sides[0] - sides[1]) / 2e-6
        assert expected != 0 and float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_channels_last_gives_the_same_in_its_own_format():
    contiguous = Setting(*NETWORKS["unpooling"]).ours()
    setting = Setting(*NETWORKS["unpooling"], memory_format=torch.channels_last)
    assert setting.image.is_contiguous(memory_format=torch.channels_last)
    seen = []
    setting.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    result = setting.ours()
    assert len(seen) == 3 and all(entry.is_contiguous(memory_format=torch.channels_last) for entry in seen)
    for name in ("projections", "network"):
        assert relative_error(getattr(result, name).values(), getattr(contiguous, name).values()) <= 1e-9


@pytest.mark.parametrize("primary_at", ["virtual", "current"])
@pytest.mark.parametrize("approximate", [False, True])
def test_running_statistics_move_once_and_nothing_else(primary_at, approximate):
    setting = Setting(*NETWORKS["unpooling"], tasks=2)
    plain = Setting(*NETWORKS["unpooling"], tasks=2)
    modules = [setting.backbone, setting.primary_head, *setting.heads]
    weights = [p.detach().clone() for module in modules for p in module.parameters()]
    setting.ours(primary_at=primary_at, approximate=approximate)
    plain.backbone(plain.image)
    for ours, theirs in zip(setting.backbone.buffers(), plain.backbone.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for head in (setting.primary_head, *setting.heads):
        assert all(int(m.num_batches_tracked) == 1 for m in head.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(
        torch.equal(before, after)
        for before, after in zip(weights, (p for m in modules for p in m.parameters()), strict=True)
    )
    assert all(p.grad is None for module in modules for p in module.parameters())


def test_random_numbers_go_on_as_after_one_pass():
    setting = Setting(*NETWORKS["own"])
    setting.ours()
    after = torch.rand(3)
    torch.manual_seed(1)
    setting.backbone(setting.image)
    assert torch.equal(after, torch.rand(3))


def test_the_primary_gradient_at_theta():
    setting = Setting(*NETWORKS["unpooling"])
    result = setting.ours(primary_at="current")
    assert relative_error(result.projections.values(), setting.reference()[0]) <= 1e-9
    learned = [*setting.backbone.parameters(), *setting.primary_head.parameters()]
    loss = setting.primary_loss(setting.backbone(setting.image))
    expected = torch.autograd.grad(loss, learned)
    assert float(result.primary_loss) == pytest.approx(float(loss.detach()))
    assert relative_error([result.network[p] for p in learned], expected) <= 1e-12


def test_the_approximate_mode_is_the_limit_of_small_steps_and_says_how_near_it_is():
    setting = Setting(*NETWORKS["bilinear"])
    result = setting.ours(approximate=True, compare=True)
    exact = Setting(*NETWORKS["bilinear"]).ours()
    ours, theirs = (torch.cat([g.flatten() for g in r.projections.values()]) for r in (result, exact))
    cosine = float(torch.cosine_similarity(ours, theirs, 0))
    assert result.exactness == pytest.approx(cosine, rel=1e-9) and 0.5 < cosine < 0.999999
    alone = Setting(*NETWORKS["bilinear"]).ours(approximate=True)
    assert alone.consistent and alone.exactness is None
    assert relative_error(alone.projections.values(), result.projections.values()) <= 1e-12


@pytest.mark.parametrize("options", [{}, {"primary_at": "current"}, {"approximate": True}, {"method": "double_vjp"}])
def test_micro_batches_give_the_whole_batchs_gradients(options):
    whole = Setting(*NETWORKS["unpooling"], tasks=2, train=False).ours(**options)
    parts = Setting(*NETWORKS["unpooling"], tasks=2, train=False).ours(slice(0, 2), slice(2, 4), **options)
    for name in ("projections", "network", "auxiliary"):
        assert relative_error(getattr(parts, name).values(), getattr(whole, name).values()) <= 1e-12
    assert float(parts.primary_loss) == pytest.approx(float(whole.primary_loss), rel=1e-12)
    assert parts.consistency < 1e-12


def test_processes_with_half_the_batch_each_give_the_whole_batchs_gradients(in_two_processes):
    """In eval mode, where random numbers play no part."""
    settings = [Setting(*NETWORKS["unpooling"], tasks=2, train=False) for _ in range(2)]
    results = in_two_processes(lambda rank, reduce: settings[rank].ours(slice(2 * rank, 2 * rank + 2), reduce=reduce))
    whole = Setting(*NETWORKS["unpooling"], tasks=2, train=False).ours()
    for result in results:
        assert result.consistent
        for name in ("projections", "network", "auxiliary"):
            assert relative_error(getattr(result, name).values(), getattr(whole, name).values()) <= 1e-12


def test_a_pass_that_was_made_already_is_taken_over():
    setting = Setting(*NETWORKS["separable"], tasks=2)
    torch.manual_seed(1)
    state = PassState.of(setting.backbone)
    step = MetaStep(setting.backbone, setting.projections, ALPHA)
    step.add(setting.batch(), features=setting.backbone(setting.image), state=state)
    assert_same(step.finish(), setting.reference())


def test_a_loss_scale_leaves_no_trace():
    plain = Setting(*NETWORKS["unpooling"], tasks=2).ours()
    for options in ({}, {"primary_at": "current"}, {"approximate": True}):
        plain = Setting(*NETWORKS["unpooling"], tasks=2).ours(**options)
        scaled = Setting(*NETWORKS["unpooling"], tasks=2).ours(**options, loss_scale=1024.0)
        for name in ("projections", "network", "auxiliary"):
            assert relative_error(getattr(scaled, name).values(), getattr(plain, name).values()) <= 1e-12
    assert scaled.consistent
