"""The built-in kinds of each exchangeable part, by name."""

BACKBONES = {"wan": "fw_model.backbones.wan:WanBackbone"}
VAES = {"wan": "fw_model.vaes.wan:WanVae"}
EMBEDDERS = {"open_clip": "fw_model.embedders.clip:OpenClipEmbedder"}
TEXT_ENCODERS = {
    "clip": "fw_model.text_encoders.clip:ClipTextEncoder",
    "umt5": "fw_model.text_encoders.umt5:Umt5TextEncoder",
}
