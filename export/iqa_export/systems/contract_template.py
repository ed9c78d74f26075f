"""A contract file to fill in, with a comment for every key."""

TEMPLATE = """\
# What a network eats and what its score means, for
#   iqa-export --module package.module:factory --contract THIS_FILE --weights FILE
# Check it with: iqa-export --check-contract THIS_FILE
# A key that begins with "#" is optional and shown with an example.

name = "my-network"            # of the model: letters, digits, "_", "." and "-"
# variant = "default"          # of its architecture, where there are several
# title = "My network"         # for people
# paper = "Authors, title, journal, year"
licence = "not stated"         # of the weights
# trained_on = "KonIQ-10k"
# faithful = "the authors' own code"
task = "nr"                    # nr: forward(image); fr: forward(image, reference), the same scene, pixel on pixel;
                               # nar: forward(image, reference), a reference of any content
# pooling = "mean"             # how the scores of crops become one: mean, median, min, max, p05 (5th percentile)

[network]                      # keyword arguments of the factory
# width = 64

[input]
crop = 224                     # side of a crop in pixels; leave it out with patch_plan.kind = "whole"
values = "0..1"                # range of pixels before mean and std: "0..1", "0..255" or "-1..1"
mean = [0.485, 0.456, 0.406]   # forward gets (pixel - mean) / std; [0, 0, 0] and [1, 1, 1] leave pixels as they are
std = [0.229, 0.224, 0.225]
# color = "RGB"                # order of the channels, of mean and std too: "RGB" or "BGR"
# color_space = "sRGB"         # "stored" for a network trained on pixels as files hold them, profiles ignored
# crops_per_item = 10          # where forward takes N x P x 3 x H x W: so many crops of one picture at once

# [resize]                     # what is done to a picture before crops are cut; leave it out for nothing
# to = "shorter"               # "shorter" or "longer": that side; "exact": [height, width]; "pixels": their number
# size = 512
# filter = "bicubic"           # nearest, box, bilinear, hamming, bicubic or lanczos, as Pillow computes them
# when = "always"              # "shrink" never enlarges

[patch_plan]                   # where crops lie
kind = "five"                  # five (corners and centre), center, grid (with stride), random (with count and seed),
                               # uniform (with count), or whole: the picture as one item
# stride = 112
# count = 25
# seed = 0

[score]
direction = "higher"           # which scores are the better ones: "higher" or "lower"
low = 0.0                      # the range of the labels it was trained on; leave an end out that there is not
high = 1.0
# bounded = false              # true if the network cannot leave the range
scale = "mean opinion score"   # what the labels were, in words
# output = 0                   # where forward returns a tuple or dict: the place or name of the score

# [head]                       # where the network returns a distribution over grades: the score is their mean
# distribution = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
# values = "logits"            # what it returns: "logits", of which the graph takes the softmax, or "probabilities"

# [[maps]]                     # a value for each cell of a grid over the crop; may be repeated
# name = "quality_map"         # or "weight_map"
# output = 1
# rows = 7
# columns = 7

# [[extras]]                   # any other output; may be repeated
# name = "distortions"
# output = 2
# shape = [4]                  # without the batch
# labels = ["noise", "blur", "JPEG", "JPEG 2000"]
"""
