/* A camera for OpenCV's Video4Linux code where there is none: loaded before the C library (LD_PRELOAD), it
 * answers for the paths that begin with $V4L2_DEVICES. What follows there names what the device is like; the
 * words are those that is() is asked for below.
 *
 * A device plays the files 0, 1, ... of $V4L2_FRAMES/FORMAT, one every 10 ms, again and again; FORMAT (MJPG or
 * YUYV) is the only one it has, and 128x96 its only size. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 128, HEIGHT = 96, BUFFER_BYTES = 2 * WIDTH * HEIGHT, BUFFERS = 8, FDS = 64, FAULT_AT = 5 };

static struct device {
    char kind[32];
    int queue[BUFFERS], queued, played;
    void *memory[BUFFERS];
} devices[FDS];

static int pulled; /* the camera called "unplugged" is out, and its device file is gone */

static struct device *device_of(int fd) {
    return fd >= 0 && fd < FDS && devices[fd].kind[0] ? &devices[fd] : NULL;
}

static int is(const struct device *device, const char *kind) { return !strcmp(device->kind, kind); }

static int fail(int code) {
    errno = code;
    return -1;
}

static int open_any(const char *path, int flags, mode_t mode) {
    const char *prefix = getenv("V4L2_DEVICES");
    if (!prefix || strncmp(path, prefix, strlen(prefix)))
        return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    const char *kind = path + strlen(prefix);
    if (!strcmp(kind, "denied"))
        return fail(EACCES);
    if (!strcmp(kind, "unplugged") && pulled)
        return fail(ENOENT);
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (fd >= FDS)
        return fail(EMFILE);
    memset(&devices[fd], 0, sizeof devices[fd]);
    strncpy(devices[fd].kind, kind, sizeof devices[fd].kind - 1);
    return fd;
}

#define OPEN(name)                                                                                          \
    int name(const char *path, int flags, ...) {                                                            \
        va_list more;                                                                                       \
        va_start(more, flags);                                                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                              \
        va_end(more);                                                                                       \
        return open_any(path, flags, mode);                                                                 \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (device_of(fd))
        devices[fd].kind[0] = 0;
    return syscall(SYS_close, fd);
}

static void *map_any(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    struct device *device = device_of(fd);
    if (!device)
        return (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
    void *memory = (void *)syscall(SYS_mmap, NULL, length, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return device->memory[offset / BUFFER_BYTES] = memory;
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return map_any(at, length, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return map_any(at, length, protection, flags, fd, offset);
}

static void pace(int fd, int running) {
    struct timespec tick = {0, running ? 10 * 1000 * 1000 : 0};
    struct itimerspec timer = {tick, tick};
    timerfd_settime(fd, 0, &timer, NULL);
}

static size_t play(struct device *device, void *memory) {
    char path[4096];
    FILE *file = NULL;
    for (int number = device->played++; !file; number = 0) { /* from the start again after the last */
        snprintf(path, sizeof path, "%s/%s/%d", getenv("V4L2_FRAMES"), is(device, "yuyv") ? "YUYV" : "MJPG",
                 number);
        file = fopen(path, "rb");
        device->played = number + 1;
    }
    size_t used = fread(memory, 1, BUFFER_BYTES, file);
    fclose(file);
    return used;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    struct device *device = device_of(fd);
    if (!device)
        return syscall(SYS_ioctl, fd, request, argument);
    struct v4l2_capability *capability = argument;
    struct v4l2_format *format = argument;
    struct v4l2_streamparm *pace_wanted = argument;
    struct v4l2_requestbuffers *wanted = argument;
    struct v4l2_buffer *buffer = argument;
    uint64_t ticks;
    struct timespec now;
    switch (request & 0xffffffff) {
    case VIDIOC_QUERYCAP:
        if (is(device, "gone")) /* somebody else still has it open */
            return fail(ENODEV);
        memset(capability, 0, sizeof *capability);
        /* A camera's second device gives what it measured beside the pictures. */
        capability->device_caps =
            V4L2_CAP_STREAMING | (is(device, "metadata") ? V4L2_CAP_META_CAPTURE : V4L2_CAP_VIDEO_CAPTURE);
        capability->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_DEVICE_CAPS;
        return 0;
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT:
        format->fmt.pix.width = WIDTH;
        format->fmt.pix.height = HEIGHT;
        format->fmt.pix.pixelformat = is(device, "yuyv")     ? V4L2_PIX_FMT_YUYV
                                      : is(device, "strange") ? v4l2_fourcc('O', 'D', 'D', ' ')
                                                              : V4L2_PIX_FMT_MJPEG;
        format->fmt.pix.bytesperline = 2 * WIDTH;
        format->fmt.pix.sizeimage = BUFFER_BYTES;
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM:
        pace_wanted->parm.capture.timeperframe = (struct v4l2_fract){1, 100};
        return 0;
    case VIDIOC_REQBUFS:
        if (is(device, "busy"))
            return fail(EBUSY);
        wanted->count = wanted->count < BUFFERS ? wanted->count : BUFFERS;
        device->queued = 0;
        return 0;
    case VIDIOC_QUERYBUF:
        buffer->length = BUFFER_BYTES;
        buffer->m.offset = buffer->index * BUFFER_BYTES;
        return 0;
    case VIDIOC_QBUF:
        device->queue[device->queued++] = buffer->index;
        return 0;
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
        pace(fd, request == VIDIOC_STREAMON);
        return 0;
    case VIDIOC_DQBUF:
        if (is(device, "unplugged") && device->played == FAULT_AT) {
            pulled = 1;
            return fail(ENODEV);
        }
        if (is(device, "hanging") && device->played == FAULT_AT)
            pace(fd, 0);
        if (!device->queued || read(fd, &ticks, sizeof ticks) < 0)
            return fail(EAGAIN);
        buffer->index = device->queue[0];
        memmove(device->queue, device->queue + 1, --device->queued * sizeof device->queue[0]);
        buffer->length = BUFFER_BYTES;
        buffer->bytesused = play(device, device->memory[buffer->index]);
        clock_gettime(is(device, "another-clock") ? CLOCK_REALTIME : CLOCK_MONOTONIC, &now);
        now.tv_sec -= is(device, "late");
        buffer->timestamp = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
        buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        return 0;
    default:
        return fail(ENOTTY);
    }
}
