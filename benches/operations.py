"""How many operations a BERT's rows take, by its formulas: what a share of the machine's peak is counted from.

    a row's forward pass = layers x (2 x weights x tokens + 4 x tokens² x width)
    weights of a layer   = 4 x width² + 2 x width x inner width       (its six matrices)
    training             = 3 x forward                                (the backward pass is two products for each one)

A multiplication and an addition are two operations. Tokens are a row's own, without padding: what is computed for padding
does not count as done. Embeddings, pooler, heads, norms and the optimizer are left out, for they are a hundredth.

The count is nominal, and the same for all programs. `bam` has its last layer compute queries, output and feed-forward part
of [CLS] alone, as all else there is read by nobody; it is credited with the whole layer as the others are, so its share says
how fast rows are done, not how busy the multipliers are.
"""

import json

TRAINING = 3


def forward(encoder, lengths):
    """Operations of a forward pass over rows of so many tokens each, of the encoder in that folder."""
    config = json.loads((encoder / "config.json").read_text())
    layers, width, inner = (config[name] for name in ["num_hidden_layers", "hidden_size", "intermediate_size"])
    weights = 4 * width**2 + 2 * width * inner
    return layers * sum(2 * weights * tokens + 4 * tokens**2 * width for tokens in lengths)
