// A narrow wrapper of libyaml's event parser: one opaque parser, one flat event. libyaml's own structures are unions of
// C strings whose ownership moves with the event; here every pointer stays valid until the next call, and the caller
// frees nothing but the parser.
#ifndef CYAML_H
#define CYAML_H

#include <stddef.h>
#include <stdint.h>

typedef struct cyaml_parser cyaml_parser;

typedef enum {
    CYAML_STREAM_END,
    CYAML_DOCUMENT_START,
    CYAML_DOCUMENT_END,
    CYAML_SCALAR,
    CYAML_ALIAS,
    CYAML_SEQUENCE_START,
    CYAML_SEQUENCE_END,
    CYAML_MAPPING_START,
    CYAML_MAPPING_END,
    CYAML_ERROR,
} cyaml_kind;

typedef struct {
    cyaml_kind kind;
    // The position of the event's start, or of the error. Both count from 0.
    size_t line;
    size_t column;
    // The bytes of a scalar (UTF-8, may contain NUL), or the message of an error (length 0, NUL-terminated); else NULL.
    const char *value;
    size_t length;
    // 1 for a scalar without quotes; only then do `null` and `~` mean null.
    int plain;
    int has_anchor;
    int has_tag;
} cyaml_event;

// Creates a parser of `length` bytes of UTF-8, which must outlive it. Returns NULL if memory is exhausted.
cyaml_parser *cyaml_parser_create(const uint8_t *bytes, size_t length);

// Fills in the next event. After CYAML_ERROR or CYAML_STREAM_END it must not be called again.
void cyaml_parser_next(cyaml_parser *parser, cyaml_event *event);

void cyaml_parser_destroy(cyaml_parser *parser);

#endif
