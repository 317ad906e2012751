"""What a developer sees of a mistake in the service's code."""

import sys
from pathlib import Path

import pytest
import uvicorn

from slipway_kit.dev import reload


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
        ("def create_app():\n    return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def create_app(:", "SyntaxError: "),
    ],
)
def test_a_mistake_is_shown_by_the_lines_of_the_service_alone(
    code: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mistaken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mistaken", raising=False)
    config = uvicorn.Config(
        "mistaken:create_app", factory=True, reload=True, reload_dirs=[str(tmp_path)]
    )
    with pytest.raises(SystemExit) as ended:
        reload._Server(config).run(sockets=[])
    text = str(ended.value.code)
    assert shown in text
    assert str(tmp_path / "mistaken.py") in text
    assert len(text.splitlines()) <= 6, text
    assert "uvicorn" not in text
