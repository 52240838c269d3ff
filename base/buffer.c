// SPDX-License-Identifier: BSD-3-Clause
// buffer: the one place where memory is asked for and where running out of it is decided.
// 1. data is NULL (room 0), or room_bytes long with size_bytes < room_bytes, data[size_bytes] == 0.
// 2. A size that overflows is handled as memory that ran out: it could not be had either.
#include "base/buffer.h"

#include <stdio.h>

#include "base/log.h"

#define BUFFER_FIRST_BYTES 64

static _Noreturn void memory_ended(void)
{
    // No log_write: it formats, and there is no memory to count on.
    static const char line[] = "butlerfs: out of memory\n";
    ssize_t ignored = write(STDERR_FILENO, line, sizeof(line) - 1);
    (void)ignored;
    abort();
}

void *memory_new(size_t size_bytes)
{
    void *memory = calloc(1, size_bytes ? size_bytes : 1);
    if (!memory)
        memory_ended();
    return memory;
}

void *memory_grow(void *old, size_t count, size_t each_bytes)
{
    size_t size_bytes;
    if (__builtin_mul_overflow(count, each_bytes, &size_bytes))
        memory_ended();
    // realloc to 0 may free: never ask for that.
    void *memory = realloc(old, size_bytes ? size_bytes : 1);
    if (!memory)
        memory_ended();
    return memory;
}

void *memory_aligned(size_t size_bytes, size_t align_bytes)
{
    void *memory = aligned_alloc(align_bytes, size_bytes);
    if (!memory)
        memory_ended();
    return memory;
}

char *memory_copy(const void *data, size_t size_bytes)
{
    size_t with_end;
    if (__builtin_add_overflow(size_bytes, 1, &with_end))
        memory_ended();
    char *copy = memory_grow(NULL, with_end, 1);
    if (size_bytes)
        memcpy(copy, data, size_bytes);
    copy[size_bytes] = 0;
    return copy;
}

void buffer_release(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){0};
}

void buffer_clear(struct buffer *b)
{
    buffer_truncate(b, 0);
}

void buffer_reserve(struct buffer *b, size_t more_bytes)
{
    size_t need;
    if (__builtin_add_overflow(b->size_bytes, more_bytes, &need) ||
        __builtin_add_overflow(need, 1, &need))
        memory_ended();
    if (need <= b->room_bytes)
        return;
    size_t room = b->room_bytes ? b->room_bytes : BUFFER_FIRST_BYTES;
    while (room < need)
        if (__builtin_mul_overflow(room, 2, &room))
            room = need;
    b->data = memory_grow(b->data, room, 1);
    b->room_bytes = room;
    b->data[b->size_bytes] = 0;
}

void buffer_append(struct buffer *b, const void *data, size_t size_bytes)
{
    buffer_reserve(b, size_bytes);
    if (size_bytes)
        memcpy(b->data + b->size_bytes, data, size_bytes);
    b->size_bytes += size_bytes;
    b->data[b->size_bytes] = 0;
}

void buffer_append_byte(struct buffer *b, char byte)
{
    buffer_append(b, &byte, 1);
}

void buffer_append_text(struct buffer *b, struct text t)
{
    buffer_append(b, t.data, t.size_bytes);
}

void buffer_append_string(struct buffer *b, const char *s)
{
    buffer_append(b, s, strlen(s));
}

void buffer_format(struct buffer *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buffer_vformat(b, format, args);
    va_end(args);
}

void buffer_vformat(struct buffer *b, const char *format, va_list args)
{
    int saved = errno; // %m speaks of it, and asking for memory may change it
    va_list again;
    va_copy(again, args);
    buffer_reserve(b, 0);
    size_t left = b->room_bytes - b->size_bytes;
    errno = saved;
    int wanted = vsnprintf(b->data + b->size_bytes, left, format, args);
    check(wanted >= 0); // only a wrong format or more than INT_MAX bytes
    if ((size_t)wanted >= left) {
        buffer_reserve(b, (size_t)wanted);
        errno = saved;
        vsnprintf(b->data + b->size_bytes, (size_t)wanted + 1, format, again);
    }
    va_end(again);
    b->size_bytes += (size_t)wanted;
}

void buffer_make_line(struct buffer *b)
{
    for (size_t i = 0; i < b->size_bytes; i++)
        if ((unsigned char)b->data[i] < ' ')
            b->data[i] = '?';
}

void buffer_truncate(struct buffer *b, size_t size_bytes)
{
    check(size_bytes <= b->size_bytes);
    b->size_bytes = size_bytes;
    if (b->data)
        b->data[size_bytes] = 0;
}

char *buffer_steal(struct buffer *b)
{
    buffer_reserve(b, 0);
    char *stolen = b->data;
    *b = (struct buffer){0};
    return stolen;
}
