from headmix_server.core.errors import (
    ERRORS_BY_CODE,
    HeadmixServerError,
    InternalError,
    ServerOverloaded,
    error_from_code,
)


def test_every_code_finds_its_own_class() -> None:
    assert all(ERRORS_BY_CODE[code].code == code for code in ERRORS_BY_CODE)
    assert ERRORS_BY_CODE["internal_error"] is InternalError
    assert HeadmixServerError not in ERRORS_BY_CODE.values()


def test_a_code_nobody_knows_is_an_internal_error() -> None:
    error = error_from_code("no_such_code", "what the engine said")
    assert isinstance(error, InternalError)
    assert error.message == "what the engine said"


def test_every_temporary_error_says_when_to_come_back() -> None:
    again = {code for code in ERRORS_BY_CODE if error_from_code(code, "").retry_after is not None}
    assert again == {code for code, error in ERRORS_BY_CODE.items() if error.status == 503}


def test_who_knows_better_when_to_come_back_is_believed() -> None:
    assert ServerOverloaded("", retry_after=7).retry_after == 7
    assert ServerOverloaded("").retry_after == ServerOverloaded.usual_retry
