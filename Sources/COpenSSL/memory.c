#include "internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// Counts the allocations of OpenSSL and this module. Nothing is counted, and there is no cost, until a process asks for
// it.

static atomic_size_t live_blocks;
static atomic_size_t live_bytes;
static atomic_size_t allocations;

/// The size is stored before the block; 16 bytes keep the block aligned for every type.
enum { PREFIX = 16 };

static void *counted_malloc(size_t count, const char *file, int line) {
    (void)file, (void)line;
    uint8_t *block = malloc(count + PREFIX);
    if (!block) return NULL;
    memcpy(block, &count, sizeof count);
    atomic_fetch_add(&live_blocks, 1);
    atomic_fetch_add(&live_bytes, count);
    atomic_fetch_add(&allocations, 1);
    return block + PREFIX;
}

static void counted_free(void *pointer, const char *file, int line) {
    (void)file, (void)line;
    if (!pointer) return;
    uint8_t *block = (uint8_t *)pointer - PREFIX;
    size_t count;
    memcpy(&count, block, sizeof count);
    atomic_fetch_sub(&live_blocks, 1);
    atomic_fetch_sub(&live_bytes, count);
    free(block);
}

static void *counted_realloc(void *pointer, size_t count, const char *file, int line) {
    if (!pointer) return counted_malloc(count, file, line);
    if (count == 0) {
        counted_free(pointer, file, line);
        return NULL;
    }
    size_t previous;
    memcpy(&previous, (uint8_t *)pointer - PREFIX, sizeof previous);
    void *grown = counted_malloc(count, file, line);
    if (!grown) return NULL;
    memcpy(grown, pointer, previous < count ? previous : count);
    counted_free(pointer, file, line);
    return grown;
}

bool hop_memory_start_counting(void) {
    return CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free) == 1;
}

hop_memory hop_memory_count(void) {
    return (hop_memory){atomic_load(&live_blocks), atomic_load(&live_bytes), atomic_load(&allocations)};
}
