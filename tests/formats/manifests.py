"""What `bam export k8s` writes, by the schemas of Kubernetes' API."""

import kubernetes_validate
import yaml
from made import Made, hold

# The oldest that is still supported, and the newest that the package has.
VERSIONS = ["1.33", "1.37"]


def checks(made: Made):
    yield "manifests", lambda: by_schema(made)


def by_schema(made: Made) -> str:
    jobs = [job for path in made.manifests() for job in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    stages = [path.name for path in (made.folder / "artifacts/latest").iterdir()]
    hold("stages", sorted(job["metadata"]["annotations"]["bam/stage"] for job in jobs), sorted(stages))
    for version in VERSIONS:
        for job in jobs:
            # Strictly: what the schema has no word for is a mistake.
            kubernetes_validate.validate(job, version, strict=True)
    return f"{len(jobs)} Jobs in {len(made.manifests())} waves, by the schemas of {' and '.join(VERSIONS)}"
