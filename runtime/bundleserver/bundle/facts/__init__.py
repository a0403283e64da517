"""What a bundle tells of itself: its manifest's metadata, its components and its verification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bundleserver.bundle import libraries
from bundleserver.bundle.facts.interface import shown_metadata
from bundleserver.bundle.integrity import bundle_digest
from bundleserver.bundle.libraries import Mismatch
from bundleserver.bundle.trust.verification import Verification
from bundleserver.bundle.warming.probe import ProbeResult
from bundleserver.frameworks import Predictor
from bundleserver.frameworks.interface import HasMetadata
from bundleserver.manifest import Manifest
from bundleserver.tensors.call_traits import CallTraits


def facts_of(
    manifest: Manifest,
    predictors: Mapping[str, Predictor],
    probe: ProbeResult,
    call_traits: CallTraits,
    verification: Verification,
    methods: Sequence[str] = (),
    mismatches: Sequence[Mismatch] = (),
) -> dict[str, object]:
    """Return the manifest's metadata and that of the components as JSON values.

    ``methods``: what requests may ask for by V2's ``outputs`` beside the outputs.
    """
    digest = bundle_digest(manifest)
    known: dict[str, object] = {
        **shown_metadata(manifest),
        "digest": digest,
        "inferred": manifest.inferred,
        "probed": probe.answered,
        "rows_independent": call_traits.batchable,
        "components": {
            name: {
                "framework": component.framework,
                **(predictor.metadata if isinstance(predictor, HasMetadata) else {}),
            }
            for (name, component), predictor in zip(
                manifest.components.items(), predictors.values(), strict=True
            )
        },
        "verification": {"digest": digest, "signature": verification.facts()},
    }
    if methods:
        known["methods"] = list(methods)
    if probe.reason:
        known["probe"] = probe.reason
    if manifest.requirements.packages:
        known["requirements"] = dict(manifest.requirements.packages)
    if mismatches:
        known["library_mismatches"] = dict(libraries.facts(mismatches))
    return known
