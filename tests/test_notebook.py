"""The example notebook runs from its first cell to its last."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

NOTEBOOK = Path(__file__).parents[1] / "docs" / "python.ipynb"


@pytest.mark.slow
def test_the_example_notebook_runs(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)

    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()

    printed = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "fd_mini" in printed
    assert "HU" in printed
    assert list(tmp_path.glob("outputs/*/*/generator.safetensors"))


def test_the_example_notebook_is_stored_without_output():
    assert not any(cell.get("outputs") for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
