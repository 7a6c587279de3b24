import sys
from pathlib import Path

import pytest
import torch

from yolo_mha import registry
from yolo_mha.engine.block_modules import block_sources, file_of, import_blocks, own_modules, source_files
from yolo_mha.errors import ConfigError
from yolo_mha.nn import SpatialMHABlock

FILES = {
    "near/in_parts.py": "import torch, yolo_mha\nfrom helper import scale\nfrom far_base import Base\nimport far_part\n"
    "\n@yolo_mha.register\nclass InParts(Base):\n    def __init__(self, dim):\n        super().__init__()\n"
    "        self.part = far_part.Part()\n",
    "near/helper.py": "def scale(x):\n    return 0 * x\n",
    "near/unused.py": "",
    "far/far_base.py": "import torch\n\nclass Base(torch.nn.Module):\n    pass\n",
    "far/far_part.py": "import torch\n\nclass Part(torch.nn.Conv2d):\n    def __init__(self):\n"
    "        super().__init__(1, 1, 1)\n",
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Leave neither blocks nor modules nor paths behind."""
    monkeypatch.setattr(registry, "_blocks", dict(registry._blocks))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A network with a block whose base, part and helper are in other files."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "far"))
    import_blocks([str(tmp_path / "near" / "in_parts.py")])
    return torch.nn.Sequential(torch.nn.Identity(), registry.block_class("InParts")(8))


@pytest.mark.parametrize("name", FILES)
def test_block_sources__change_with_the_files_of_the_block(network, tmp_path, name):
    (before,) = block_sources(network).values()
    assert block_sources(network) == block_sources(torch.nn.Sequential(network))
    (tmp_path / name).write_text((tmp_path / name).read_text() + "# changed\n")
    (after,) = block_sources(network).values()
    assert (before != after) == (name != "near/unused.py")


def test_block_sources__are_of_blocks_alone_and_without_torch():
    assert block_sources(torch.nn.Conv2d(1, 1, 1)) == {}
    network = torch.nn.Sequential(SpatialMHABlock(32), SpatialMHABlock(32, position="rope"))
    (files,) = source_files(network).values()
    assert {"yolo_mha.nn.block", "yolo_mha.nn.spatial", "yolo_mha.nn.attend"} <= files.keys()
    assert all(name.startswith("yolo_mha.nn.") for name in files)


def test_block_sources__need_a_file(monkeypatch):
    block = type("InNoFile", (torch.nn.Identity,), {"__module__": "nowhere"})
    monkeypatch.setitem(registry._blocks, "InNoFile", block)
    with pytest.raises(ConfigError, match="A block has no source file") as refused:
        block_sources(block())
    assert "InNoFile, of module nowhere" in refused.value.given


@pytest.mark.parametrize(
    "word", ["a_block", "a_block.py", "{}/a_block.py", "a_pack", "{}/a_pack", "{}/a_pack/inner.py"]
)
def test_import_blocks__by_name_or_file(tmp_path, monkeypatch, word):
    (tmp_path / "a_block.py").write_text("")
    (tmp_path / "a_pack").mkdir()
    for name in ("__init__", "inner"):
        (tmp_path / "a_pack" / f"{name}.py").write_text("")
    import_blocks([word.format(tmp_path)])
    name = {"a_block.py": "a_block", "inner.py": "a_pack.inner"}.get(Path(word).name, Path(word).name)
    file = file_of(name)
    assert Path(file) == tmp_path / f"{name.replace('.', '/')}{'' if name == 'a_pack' else '.py'}"
    for module in [module for module in sys.modules if module.startswith("a_")]:
        del sys.modules[module]
    monkeypatch.chdir("/")
    import_blocks([file])  # from any folder
    assert name in sys.modules


def test_import_blocks__says_what_is_wrong(tmp_path):
    (tmp_path / "json.py").write_text("")
    (tmp_path / "typo.py").write_text("def (")
    for word, problem in (
        (str(tmp_path / "json.py"), "Another module is already called json"),
        (str(tmp_path / "typo.py"), "cannot be imported"),
        (str(tmp_path / "missing.py"), "cannot be imported"),
        ("nothing_here", "cannot be imported"),
    ):
        with pytest.raises(ConfigError, match=problem) as refused:
            import_blocks([word])
        assert word in refused.value.given


def test_own_modules__are_those_of_the_user(network, tmp_path):
    assert own_modules([network, torch.nn.Sequential(SpatialMHABlock(32))]) == (str(tmp_path / "near" / "in_parts.py"),)


def test_file_of__a_package_without_init_is_its_name(tmp_path, monkeypatch):
    (tmp_path / "bare_pack").mkdir()
    (tmp_path / "bare_pack" / "inner.py").write_text("")
    import_blocks(["bare_pack.inner"])
    assert file_of("bare_pack.inner") == "bare_pack.inner"
