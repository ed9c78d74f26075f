import torch
from torch.nn import functional

from iqa_export.models import windows


def test_cut_is_unfold():
    tokens = torch.arange(2 * 36 * 5, dtype=torch.float32).reshape(2, 36, 5)
    image = tokens.reshape(2, 6, 6, 5).permute(0, 3, 1, 2)
    unfolded = functional.unfold(image, 3, stride=3).reshape(2, 5, 9, 4).permute(0, 3, 2, 1)
    assert torch.equal(windows.cut(tokens, 6, 2), unfolded)


def test_join_undoes_cut():
    tokens = torch.randn(2, 36, 5)
    for count in (1, 2, 3, 6):
        assert torch.equal(windows.join(windows.cut(tokens, 6, count), 6, count), tokens)


def test_maps_are_cut_as_tokens_are():
    tokens = torch.randn(2, 36, 5)
    assert torch.equal(windows.cut(tokens.reshape(2, 6, 6, 5), 6, 2), windows.cut(tokens, 6, 2))
