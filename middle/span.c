#include "middle/span.h"

#include "backend/backend.h"
#include "base/fatal.h"
#include "base/meta.h"
#include "pagemap/pagemap.h"

const struct size_class size_classes[RN_CLASSES] = {
#include "middle/size_classes.inc"
};

_Static_assert(sizeof(struct span) == 40 + 8 || sizeof(struct span) == 40, "three words of bits fit in 64 bytes");

static size_t bit_words(unsigned class_index) { return (size_classes[class_index].objects + 63u) / 64; }

static uint32_t meta_size_of(unsigned class_index) {
    size_t need = sizeof(struct span) + bit_words(class_index) * sizeof(uint64_t);
    size_t size = META_BLOCK_MIN;
    while (size < need)
        size *= 2;
    return (uint32_t)size;
}

struct span *span_create(unsigned class_index) {
    const struct size_class *class_ = &size_classes[class_index];
    uint32_t size = meta_size_of(class_index);
    struct span *span = meta_block_alloc(size);
    if (!span)
        return NULL;
    bool zeroed;
    uintptr_t start = backend_alloc(class_->pages, 1, &zeroed);
    if (!start) {
        meta_block_free(span, size);
        return NULL;
    }
    span->next = span->prev = NULL;
    span->start = start;
    span->pages = class_->pages;
    span->class_index = (uint8_t)class_index;
    span->free = class_->objects;
    span->meta_size = size;
    for (size_t w = 0; w < bit_words(class_index); w++)
        span->bits[w] = ~(uint64_t)0;
    if (class_->objects % 64)
        span->bits[class_->objects / 64] = ((uint64_t)1 << class_->objects % 64) - 1;
    pagemap_set(start, class_->pages, (uint8_t)class_index, span);
    return span;
}

void span_destroy(struct span *span) {
    pagemap_set(span->start, span->pages, 0, NULL);
    backend_free(span->start, span->pages);
    meta_block_free(span, span->meta_size);
}

size_t span_take(struct span *span, void **objects, size_t count) {
    size_t size = size_classes[span->class_index].size;
    size_t taken = min_size(count, span->free);
    size_t left = taken; /* from the end: a bin is a stack, so the program then gets them in ascending order */
    for (size_t w = 0; left; w++) {
        uint64_t word = span->bits[w];
        while (word && left) {
            unsigned bit = (unsigned)__builtin_ctzll(word);
            word &= word - 1;
            objects[--left] = (void *)(span->start + (w * 64 + bit) * size);
        }
        span->bits[w] = word;
    }
    span->free = (uint16_t)(span->free - taken);
    return taken;
}

int span_index(const struct span *span, const void *object) {
    uint32_t offset = (uint32_t)((uintptr_t)object - span->start);
    uint32_t size = size_classes[span->class_index].size;
    uint32_t index = offset / size;
    return index * size == offset && index < size_classes[span->class_index].objects ? (int)index : -1;
}

void *object_start(unsigned class_index, const void *pointer) {
    const struct span *span = pagemap_handle(pointer);
    uint32_t size = size_classes[class_index].size;
    uint32_t index = (uint32_t)((uintptr_t)pointer - span->start) / size;
    return (void *)(span->start + (uintptr_t)index * size);
}

bool object_is_free(unsigned class_index, const void *object) {
    (void)class_index;
    const struct span *span = pagemap_handle(object);
    int index = span_index(span, object);
    return index >= 0 && (span->bits[index / 64] >> (index % 64) & 1);
}

void span_misuse(unsigned class_index, const void *object, const char *what) {
    struct line line = {.used = 0};
    line_text(&line, "free(");
    line_address(&line, object);
    line_text(&line, "): ");
    line_text(&line, what);
    line_text(&line, " (size class ");
    line_number(&line, size_classes[class_index].size);
    line_text(&line, " bytes)");
    line_fatal(&line);
}
