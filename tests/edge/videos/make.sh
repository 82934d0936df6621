#!/bin/sh
# Makes the videos beside it, with FFmpeg: eight frames of a colour that grows redder, 64x48, in every kind of file.
# The vfr-* have pauses (ten frames a second, but the fifth comes 3 s after the fourth); trimmed.mp4 was cut by an
# edit list, so that it holds frames that are not shown; sound.mkv goes on in sound where the picture has ended.
set -e
cd "$(dirname "$0")"
picture="color=black:s=64x48:r=10:d=0.8,format=rgb24,geq=r=120+12*N+X/4:g=90+Y/2:b=140"
pauses="setpts='if(lt(N,4),N/10/TB,(N/10+3)/TB)'"
make() { ffmpeg -y -v error -f lavfi -i "$picture" -fflags +bitexact -flags:v +bitexact -pix_fmt yuv420p "$@"; }
make -c:v libx264 -g 4 raw.h264
make -c:v libx265 -x265-params log-level=none:info=0 raw.hevc
make -c:v mjpeg -q:v 5 -pix_fmt yuvj420p -f mjpeg raw.mjpeg
make -c:v mpeg2video video.ts
make -c:v mpeg2video video.m2ts
make -c:v mpeg2video video.vob
make -c:v mpeg4 video.3gp
make -c:v flv1 video.flv
make -c:v wmv2 video.wmv
make -c:v mpeg4 video.mov
make -c:v libtheora video.ogv
make -c:v flv1 -flvflags no_metadata streamed.flv
make -c:v mpeg4 -movflags frag_keyframe+empty_moov -g 2 fragments.mp4
for kind in mkv mp4 avi; do make -vf "$pauses" -fps_mode vfr -c:v mpeg4 "vfr-$kind.$kind"; done
make -vf "$pauses" -fps_mode vfr -c:v libvpx vfr-webm.webm
make -vf "$pauses" -fps_mode vfr -c:v flv1 vfr-flv.flv
make -vf "$pauses" -fps_mode vfr -c:v wmv2 vfr-wmv.wmv
make -vf "$pauses" -fps_mode vfr -c:v mpeg2video vfr-ts.ts
make -c:v mpeg4 -g 8 whole.mp4 && ffmpeg -y -v error -ss 0.35 -i whole.mp4 -c copy trimmed.mp4 && rm whole.mp4
make -c:v mpeg4 whole.mkv && ffmpeg -y -v error -i whole.mkv -f lavfi -i sine=d=3 -c:v copy -c:a libopus -b:a 6k sound.mkv
rm whole.mkv
