#!/bin/sh
# Makes all figures, tables and pictures of the documentation anew, with the bundle that ships or the one in $BUNDLE.
#
#     KODAK=kodak OBJECTS=coco/images NETS=nets CACHE=cache bench/figures.sh
#
# KODAK: folder of the 24 Kodak pictures. OBJECTS: folder of photographs with objects in them.
# NETS: folder with lpips_alex_fp16.npz, FastestDet.onnx, coco.names, mobilenet_v2_1.0_224_quant.tflite, and, if you have
#     them, VGG16's first layers as lpips_vgg16_relu33_fp16.npz.
# CACHE: folder where measurements are kept: other codecs are measured once, a new bundle costs only its own.
set -eu
cd "$(dirname "$0")/.."
: "${KODAK:?the folder of the Kodak pictures}" "${OBJECTS:?a folder of photographs with objects in them}"
: "${NETS:?the folder of LPIPS weights, detector and classifier}" "${CACHE:?a folder for measurements}"
bundle="${BUNDLE:-edgesem/default_bundle}"
ours=edgesem rates=0.03,0.05,0.1,0.116,0.2
if [ -e "$bundle/flow.onnx" ]; then
    ours=edgesem,edgesem+1step control=,avif-s6+flow
fi

edgesem bench rd --data "$KODAK" --out "$CACHE/rd" --lpips "$NETS/lpips_alex_fp16.npz" --bundle "$bundle" \
    --codecs "$ours${control:-},avif-s6,webp-m4,jpeg,jxl" --range 0.04-0.2 --at "$rates" --resamples 300 \
    --jobs "${JOBS:-1}" --readme docs/results/kodak.md
cp "$CACHE/rd/rd.md" docs/results/rd_kodak.md
cp "$CACHE/rd/rd.png" docs/images/rd_kodak.png

# A second opinion on what is drawn: the DISTS-like figures of docs/results/kodak.md
if [ -e "$NETS/lpips_vgg16_relu33_fp16.npz" ]; then
    edgesem bench rd --data "$KODAK" --out "$CACHE/rd" --lpips "$NETS/lpips_alex_fp16.npz" \
        --vgg "$NETS/lpips_vgg16_relu33_fp16.npz" --bundle "$bundle" --codecs "$ours,avif-s6" --sizes full,half \
        --range 0.04-0.2 --at "$rates" --resamples 100 --stage-pictures 0 --jobs "${JOBS:-1}"
fi

edgesem bench task --data "$OBJECTS" --out "$CACHE/task" --bundle "$bundle" --codecs "$ours,avif-s6,webp-m4,jpeg" \
    --detector "$NETS/FastestDet.onnx" --names "$NETS/coco.names" \
    --classifier "$NETS/mobilenet_v2_1.0_224_quant.tflite" --bytes "${BYTES:-1000,2000,4000}"
cp "$CACHE/task/task.md" docs/results/task_fidelity.md
cp "$CACHE/task/task.png" docs/images/task_fidelity.png

edgesem demo --out "$CACHE/demo"
python3 -c "from PIL import Image; Image.open('$CACHE/demo/contact_sheet.png').convert('RGB').save('docs/images/contact_sheet.jpg', quality=85)"
