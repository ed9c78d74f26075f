import pytest
import torch

from iqa_export.models.swin import SwinT, relative_position_index, shifted_window_mask


def test_relative_positions_of_a_small_window():
    # Tokens of a 2 x 2 window; offsets (rows, columns) run from (-1, -1), index 0, to (1, 1), index 8.
    expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    assert relative_position_index(2).tolist() == expected


def test_mask_separates_what_the_shift_brought_together():
    mask = shifted_window_mask(4, 2, 1)
    assert mask.shape == (4, 4, 4)
    assert (mask[0] == 0).all()
    # The last window holds the four corners of the map: every token sees itself alone.
    assert torch.equal(mask[3] == 0, torch.eye(4, dtype=torch.bool))


def test_every_odd_block_shifts_also_in_the_last_stage():
    network = SwinT()
    shifts = [[block.shift for block in stage.blocks] for stage in network.layers]
    assert shifts == [[0, 3], [0, 3], [0, 3, 0, 3, 0, 3], [0, 3]]
    assert all((block.attn.mask is not None) == bool(block.shift) for stage in network.layers for block in stage.blocks)


def test_blocks_are_left_out_more_often_the_deeper_they_are():
    rates = [block.drop_path.probability for stage in SwinT(0.2).layers for block in stage.blocks]
    assert rates == pytest.approx([0.2 * block / 11 for block in range(12)])
    assert not any(block.drop_path.probability for stage in SwinT().layers for block in stage.blocks)
