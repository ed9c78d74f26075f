"""benchmarks/ray_data.py on its smallest case."""

import sys

import pytest


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it asks for the affinity")
def test_rates_and_what_a_killed_run_costs(capsys, monkeypatch):
    import ray_data

    options = {"--pictures": 30, "--few": 2, "--turns": 1, "--workers": 2, "--rows": 2, "--kills": 0.3}
    monkeypatch.setattr(sys, "argv", ["ray_data.py", *(str(word) for option in options.items() for word in option)])
    ray_data.main()
    said = capsys.readouterr().out
    assert "| iqa-ray | " in said
    assert "| never | | 30, each once, all scores the same |" in said
