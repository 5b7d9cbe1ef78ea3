"""Everything one process of this deployment works with."""

from dataclasses import dataclass
from functools import cached_property

from backend import logs
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.media import MediaFetcher
from backend.settings import Settings
from backend.store.artifacts import Artifacts, artifacts_in
from backend.store.database import Database
from backend.store.embeddings import EmbeddingStore
from backend.store.storage import Storage


@dataclass(frozen=True)
class Deployment:
    """The settings and, made when first used, the connections that they describe.

    patience: seconds that Label Studio may take for an answer.
    """

    settings: Settings
    patience: float = 60

    @cached_property
    def database(self) -> Database:
        """The state."""
        return Database(self.settings.state_url)

    @cached_property
    def label_studio(self) -> LabelStudio:
        """Label Studio's API."""
        return LabelStudio(
            self.settings.label_studio_url,
            self.settings.label_studio_api_key.get_secret_value(),
            timeout=self.patience,
        )

    @cached_property
    def media(self) -> MediaFetcher:
        """The tasks' images."""
        return MediaFetcher(
            self.settings.label_studio_url,
            self.label_studio.access_token,
            self.settings.model_dir / "media",
            allowed_hosts=self.settings.allowed_media_hosts,
        )

    @cached_property
    def embeddings(self) -> EmbeddingStore:
        """The images' embeddings."""
        return EmbeddingStore(self._storage)

    @cached_property
    def artifacts(self) -> Artifacts:
        """Learners, trained embedders, opinions."""
        return artifacts_in(self._storage, self.settings.model_dir / "artifacts")

    @cached_property
    def _storage(self) -> Storage:
        return Storage(self.settings.storage_url or str(self.settings.model_dir))

    def __reduce__(self) -> tuple[type["Deployment"], tuple[Settings, float]]:
        """Another machine makes connections of its own."""
        return Deployment, (self.settings, self.patience)

    def prepare(self) -> None:
        """Bring the folder and the schema up to date; every process calls this when it starts."""
        logs.set_up(self.settings.log_level.upper(), self.settings.log_format)
        self.settings.model_dir.mkdir(parents=True, exist_ok=True)
        self.database.migrate()
