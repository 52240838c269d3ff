// SPDX-License-Identifier: BSD-3-Clause
// buffer: bytes that grow. The data is always followed by a NUL that is not counted, so that a
// buffer of text can be given to C functions. Memory that runs out ends the process (as everywhere
// in base): a daemon that can be taken over is better restarted than half working.
// Not thread-safe. Zero-initialised is empty and valid.
#pragma once
#include <stdarg.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/text.h"

struct buffer {
    char *data; // NULL or NUL-terminated
    size_t size_bytes;
    size_t room_bytes;
};

#define BUFFER_CLEANUP cleanup(buffer_release) struct buffer

void buffer_release(struct buffer *b);
void buffer_clear(struct buffer *b);                        // keeps the memory
void buffer_reserve(struct buffer *b, size_t more_bytes);
void buffer_append(struct buffer *b, const void *data, size_t size_bytes);
void buffer_append_byte(struct buffer *b, char byte);
void buffer_append_text(struct buffer *b, struct text t);
void buffer_append_string(struct buffer *b, const char *s);
void buffer_format(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_vformat(struct buffer *b, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
void buffer_make_line(struct buffer *b);                     // control characters become '?'
void buffer_truncate(struct buffer *b, size_t size_bytes);  // <= size_bytes
char *buffer_steal(struct buffer *b);                       // never NULL; the caller frees it

static inline struct text buffer_text(const struct buffer *b)
{
    return (struct text){b->data ? b->data : "", b->size_bytes};
}

// Allocation that does not fail (ends the process with one line on stderr when memory is out).
void *memory_new(size_t size_bytes);                        // zeroed; free() it
void *memory_grow(void *old, size_t count, size_t each_bytes); // realloc; the new part isn't zeroed
void *memory_aligned(size_t size_bytes, size_t align_bytes);   // the size a multiple of it; not zeroed; free() it
char *memory_copy(const void *data, size_t size_bytes);     // with a NUL after it
#define new_struct(type) ((type *)memory_new(sizeof(type)))
