"""Publishing: what the shards hold, in the formats that others load.

A format is one file with a subclass of :class:`advbench.exports.format.Format`, named here. What is
exported (``selection``, ``photographs``), under which terms (``terms``), with which columns
(``columns``), card (``card``) and Croissant metadata (``croissant``) is the same for all of them.
"""

FORMATS = {
    "png": "advbench.exports.png:PngFolders",
    "webdataset": "advbench.exports.webdataset:WebDatasetTars",
    "huggingface": "advbench.exports.huggingface:HuggingFaceFolder",
}
