"""Callbacks that publish a training: the model card in its folder, and the folder on the Hub.

A trainer calls these by their events, see ``training.callbacks``; they know nothing of it but what they ask it for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..text import require_repository
from .access import require_accepted_token
from .card import write_card
from .publish import Destination, publish


@dataclass(frozen=True)
class ModelCard:
    """Writes ``README.md``, the card of the finished model; ``details`` are its variables, see ``write_card``."""

    details: Mapping[str, Any] = field(default_factory=dict)

    def export(self, trainer: Any, model: Any) -> None:
        """Called while the finished model is written."""
        found = {"pipeline": model.pipeline, "class_names": model.class_names, "measured": model.measured}
        details = {**found, **self.details}
        write_card(model.place, model.facts, model.results, trainer.loss, trainer.terms, details)


@dataclass(frozen=True)
class PushToHub:
    """Publishes the finished model; looks before the training whether the Hub will take it.

    Args:
        repo_id: repository USER/NAME on the Hub.
        private: whether a new repository is private; None takes the Hub's default.

    Raises:
        InputError: a repository cannot be called so.
    """

    repo_id: str
    private: bool | None = None

    def __post_init__(self) -> None:
        require_repository(self.repo_id)

    def setup(self, trainer: Any) -> None:
        """Called before anything is trained; InputError where the Hub does not accept the token."""
        try:
            require_accepted_token()
        except InputError as error:
            raise InputError(f"push_to_hub: {error}. Nothing was trained yet") from error

    def train_end(self, trainer: Any) -> None:
        """Called when the finished model is in its folder; where it is not published, InputError says what to do."""
        if not trainer.accelerator.is_main_process:
            return
        trainer.progress.say(f"publishing {trainer.folder} as {self.repo_id}")
        try:
            published = publish(trainer.folder, self.repo_id, private=self.private)
        except InputError as error:
            again = Destination(self.repo_id, self.private).command(trainer.folder)
            if again in str(error):
                raise
            raise InputError(
                f"the model is in {trainer.folder}, but was not published: {error}; then: {again}"
            ) from error
        trainer.accelerator.print(str(published))


@dataclass(frozen=True)
class HubConfig:
    """The place where a finished model is published.

    Args:
        push_to_hub: publish output_dir on the Hub at the end; needs ``repo_id``, a token and, at the beginning, too, a
            connection.
        repo_id: repository USER/NAME on the Hub.
        hub_private: whether a new repository is private; None takes the Hub's default.

    Raises:
        InputError: a value is missing or cannot be.
    """

    push_to_hub: bool = False
    repo_id: str | None = None
    hub_private: bool | None = None

    def __post_init__(self) -> None:
        if self.push_to_hub and self.repo_id is None:
            raise InputError("push_to_hub needs --repo_id USER/NAME")
        if self.repo_id is not None:
            require_repository(self.repo_id)

    def callbacks(self) -> list[PushToHub]:
        """The callbacks that publish the model; none if it is not to be published."""
        return [PushToHub(self.repo_id, self.hub_private)] if self.push_to_hub and self.repo_id else []
