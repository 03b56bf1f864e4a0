// A narrow view of libyaml's event parser: one opaque parser, one flat event. libyaml's own structures hold unions of
// C strings whose ownership moves with the event; here every pointer stays valid until the next call and nothing is
// ever freed by the caller.
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
    // Where the event starts, or where the error was found. Both count from 0.
    size_t line;
    size_t column;
    // A scalar's bytes (UTF-8, may contain NUL); an error's message (length 0, NUL-terminated). Else NULL.
    const char *value;
    size_t length;
    // 1 for a scalar without quotes, which is where `null` and `~` mean "nothing".
    int plain;
    int has_anchor;
    int has_tag;
} cyaml_event;

// Reads `length` bytes of UTF-8 that outlive the parser. NULL when memory is short.
cyaml_parser *cyaml_parser_create(const uint8_t *bytes, size_t length);

// Fills in the next event. After CYAML_ERROR or CYAML_STREAM_END it must not be called again.
void cyaml_parser_next(cyaml_parser *parser, cyaml_event *event);

void cyaml_parser_destroy(cyaml_parser *parser);

#endif
