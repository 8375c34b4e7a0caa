#!/bin/sh
# Makes all figures, tables and pictures of the documentation anew, with the bundle that ships or the one in $BUNDLE.
#
#     KODAK=kodak OBJECTS=coco/images NETS=nets CACHE=cache bench/figures.sh
#
# KODAK: folder of the 24 Kodak pictures. OBJECTS: folder of photographs with objects in them.
# NETS: folder with lpips_alex_fp16.npz, FastestDet.onnx, coco.names, mobilenet_v2_1.0_224_quant.tflite, and, if you have
#     them, weights of judges that training did not see (docs/results/judges.md): vgg16.pth of torchvision with dists.pt and
#     lpips_vgg.pth, or oxford_vgg16.npz of bench/oxford_vgg16.py, or the first layers as lpips_vgg16_relu33_fp16.npz.
# CID22, CAMS: folders of more pictures to measure on, if you have them (rd_cid22 and rd_cams in CACHE).
# VIDEO: folder of clips of fixed cameras, for flicker (video in CACHE), if you have one.
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

others=svtav1-p4-iq,avif-s6,avif-s6-ssim,avif-s9,x265-slow,webp-m4,jpeg,jxl
if [ -e "$NETS/vgg16.pth" ] && [ -e "$NETS/dists.pt" ] && [ -e "$NETS/lpips_vgg.pth" ]; then
    set -- --vgg "$NETS/vgg16.pth" --dists "$NETS/dists.pt" --lpips-vgg "$NETS/lpips_vgg.pth"
elif [ -e "$NETS/oxford_vgg16.npz" ]; then
    set -- --vgg "$NETS/oxford_vgg16.npz"
elif [ -e "$NETS/lpips_vgg16_relu33_fp16.npz" ]; then
    set -- --vgg "$NETS/lpips_vgg16_relu33_fp16.npz"
else
    set --
fi
set -- --detector "$NETS/FastestDet.onnx" "$@"

edgesem bench rd --data "$KODAK" --out "$CACHE/rd" --lpips "$NETS/lpips_alex_fp16.npz" "$@" --bundle "$bundle" \
    --codecs "$ours${control:-},$others" --range 0.04-0.2 --at "$rates" --resamples 300 \
    --jobs "${JOBS:-1}" --readme docs/results/kodak.md
cp "$CACHE/rd/rd.md" docs/results/rd_kodak.md
cp "$CACHE/rd/rd.png" docs/images/rd_kodak.png

if [ -n "${CID22:-}" ]; then
    edgesem bench rd --data "$CID22" --out "$CACHE/rd_cid22" --lpips "$NETS/lpips_alex_fp16.npz" "$@" --bundle "$bundle" \
        --codecs "$ours,svtav1-p4-iq,avif-s6" --at "$rates" --jobs "${JOBS:-1}"
fi
if [ -n "${CAMS:-}" ]; then
    edgesem bench rd --data "$CAMS" --out "$CACHE/rd_cams" --lpips "$NETS/lpips_alex_fp16.npz" "$@" --bundle "$bundle" \
        --codecs "$ours,svtav1-p4-iq,avif-s6" --at "$rates" --jobs "${JOBS:-1}"
fi
if [ -n "${VIDEO:-}" ]; then
    edgesem bench video --data "$VIDEO" --out "$CACHE/video" --bundle "$bundle" --fps 5 --start 0.6 --frames 8 \
        --codecs none --probe 0,1 --middle 224
fi

edgesem bench task --data "$OBJECTS" --out "$CACHE/task" --bundle "$bundle" --codecs "$ours,avif-s6,webp-m4,jpeg" \
    --detector "$NETS/FastestDet.onnx" --names "$NETS/coco.names" \
    --classifier "$NETS/mobilenet_v2_1.0_224_quant.tflite" --bytes "${BYTES:-1000,2000,4000}"
cp "$CACHE/task/task.md" docs/results/task_fidelity.md
cp "$CACHE/task/task.png" docs/images/task_fidelity.png

edgesem demo --out "$CACHE/demo"
python3 -c "from PIL import Image; Image.open('$CACHE/demo/contact_sheet.png').convert('RGB').save('docs/images/contact_sheet.jpg', quality=85)"
