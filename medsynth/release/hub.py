"""A trained generator or translator on the Hugging Face Hub, by huggingface-hub's own interface of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from medsynth.errors import InputError
from medsynth.generator.trained import FILE, TrainedGenerator, TrainedTranslator
from medsynth.release.export_folder import CARD, save_public_generator
from medsynth.release.generator_text import GeneratorText
from medsynth.release.model_card import model_card
from medsynth.release.run_record import RunRecord, read_run
from medsynth.release.usage import usage

_CONFIG = "config.json"


class HubGenerator(ModelHubMixin, library_name="medsynth", tags=list(GeneratorText.tags)):
    """A generator or translator that can be saved for, pushed to and loaded from the Hub, with its model card.

    >>> HubGenerator.of_run("outputs/2026-01-31/12-00-00").push_to_hub("me/lung-ct", private=True)  # doctest: +SKIP
    >>> images = HubGenerator.from_pretrained("me/lung-ct").generator.sample(16)  # doctest: +SKIP
    """

    _hub_mixin_config: dict[str, Any] | None = {}  # noqa: RUF012  # the mixin's own: it then records no arguments

    def __init__(self, record: RunRecord, license_name: str | None = None):
        self._record = record
        self._license_name = license_name

    @classmethod
    def of_run(
        cls, run: str | Path, *, trust: bool = False, class_names: bool = True, license_name: str | None = None
    ) -> HubGenerator:
        """Return the generator of a run.

        Args:
            run: the folder, or a ``generator.safetensors``.
            trust: the files are the user's own and may name any generator.
            class_names: keep the names of classes; else they become ``class 0``, ...
            license_name: of the weights, for the model card, such as ``cc-by-4.0``.

        Raises:
            InputError: there is no generator, or a file is damaged or could run code.
        """
        return cls(read_run(run, trust=trust, class_names=class_names), license_name)

    @property
    def generator(self) -> TrainedGenerator:
        """The generator.

        Raises:
            InputError: it translates images.
        """
        if isinstance(self._record.generator, TrainedTranslator):
            raise InputError("This one translates images: take its translator, not its generator.")
        return self._record.generator

    @property
    def translator(self) -> TrainedTranslator:
        """The translator.

        Raises:
            InputError: it makes images of noise.
        """
        if isinstance(self._record.generator, TrainedGenerator):
            raise InputError("This one makes images of noise: take its generator, not its translator.")
        return self._record.generator

    def _save_pretrained(self, save_directory: Path) -> None:
        save_public_generator(save_directory / FILE, self._record)
        (save_directory / _CONFIG).write_text(json.dumps(usage(self._record), indent=2) + "\n", encoding="utf-8")
        (save_directory / CARD).write_text(model_card(self._record, license_name=self._license_name), encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        trust: bool = False,
    ) -> HubGenerator:
        folder = Path(model_id)
        if folder.is_dir():
            return cls.of_run(folder / FILE, trust=trust)
        try:
            path = hf_hub_download(
                model_id,
                FILE,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                token=token,
                local_files_only=local_files_only,
            )
        except (EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError) as error:
            raise InputError(
                f"{model_id} has no {FILE} that can be had: name a folder, or a repository with one."
            ) from error
        return cls.of_run(path, trust=trust)
