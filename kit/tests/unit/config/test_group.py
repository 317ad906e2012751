import pytest
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import Group, read, refuse_unknown
from slipway_kit.errors import SettingsError


class Oven(Group):
    model_config = SettingsConfigDict(env_prefix="OVEN_")

    degrees: int = Field(default=180, ge=50, le=300)
    code: SecretStr | None = Field(default=None, min_length=4)

    @model_validator(mode="after")
    def _safe(self) -> "Oven":
        if self.degrees == 300 and self.code is None:
            raise ValueError("OVEN_DEGREES of 300 needs OVEN_CODE")
        return self


def test_a_group_reads_its_prefix_and_keywords_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_DEGREES", "200")
    assert read(Oven).degrees == 200
    assert Oven(degrees=100).degrees == 100


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_DEGREES", "")
    assert read(Oven).degrees == 180


def test_a_value_out_of_bounds_is_one_sentence_with_name_and_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVEN_DEGREES", "20")
    with pytest.raises(SettingsError) as caught:
        read(Oven)
    assert str(caught.value) == (
        "OVEN_DEGREES is '20': input should be greater than or equal to 50."
    )


def test_a_secret_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_CODE", "abc")
    with pytest.raises(SettingsError) as caught:
        read(Oven)
    assert str(caught.value).startswith("OVEN_CODE: ")
    assert "abc" not in str(caught.value)


def test_every_problem_has_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_DEGREES", "hot")
    monkeypatch.setenv("OVEN_CODE", "abc")
    with pytest.raises(SettingsError) as caught:
        read(Oven)
    assert len(str(caught.value).splitlines()) == 2


def test_a_rule_between_fields_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN_DEGREES", "300")
    with pytest.raises(SettingsError) as caught:
        read(Oven)
    assert str(caught.value) == "OVEN_DEGREES of 300 needs OVEN_CODE."


@pytest.mark.parametrize(
    ("name", "hint"),
    [("OVEN_DEGRES", "was OVEN_DEGREES meant"), ("OVEN_XYZZY", "remove it")],
)
def test_an_unknown_name_with_our_prefix_is_refused(name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        refuse_unknown({name: "1"}, [Oven])
    assert str(caught.value) == f"{name} is no setting of this service; {hint}."


@pytest.mark.parametrize(
    "name",
    [
        "OVEN_DEGREES",
        "KITCHEN_LIGHT",
        "OVEN_SERVICE_HOST",
        "OVEN_SERVICE_PORT_HTTP",
        "OVEN_PORT",
        "OVEN_PORT_80_TCP_ADDR",
    ],
)
def test_known_foreign_and_kubernetes_names_pass(name: str) -> None:
    refuse_unknown({name: "1"}, [Oven])


def test_a_group_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(Oven(), "degrees", 100)  # noqa: B010 - the type checker would not let us
