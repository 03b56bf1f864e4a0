#include "CYAML.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct cyaml_parser {
    yaml_parser_t parser;
    yaml_event_t event;
    int holds_event;
};

cyaml_parser *cyaml_parser_create(const uint8_t *bytes, size_t length) {
    cyaml_parser *self = calloc(1, sizeof *self);
    if (self == NULL) return NULL;
    if (!yaml_parser_initialize(&self->parser)) {
        free(self);
        return NULL;
    }
    yaml_parser_set_input_string(&self->parser, bytes, length);
    // Without this libyaml guesses UTF-16 from a byte-order mark; the caller has already checked for UTF-8.
    yaml_parser_set_encoding(&self->parser, YAML_UTF8_ENCODING);
    return self;
}

static void cyaml_fail(cyaml_parser *self, cyaml_event *event) {
    const char *problem = self->parser.problem;
    event->kind = CYAML_ERROR;
    event->line = self->parser.problem_mark.line;
    event->column = self->parser.problem_mark.column;
    event->value = problem != NULL ? problem : "out of memory";
}

void cyaml_parser_next(cyaml_parser *self, cyaml_event *event) {
    for (;;) {
        if (self->holds_event) {
            yaml_event_delete(&self->event);
            self->holds_event = 0;
        }
        memset(event, 0, sizeof *event);
        if (!yaml_parser_parse(&self->parser, &self->event)) {
            cyaml_fail(self, event);
            return;
        }
        self->holds_event = 1;
        event->line = self->event.start_mark.line;
        event->column = self->event.start_mark.column;
        switch (self->event.type) {
        case YAML_STREAM_START_EVENT:
            continue;
        case YAML_DOCUMENT_START_EVENT:
            event->kind = CYAML_DOCUMENT_START;
            return;
        case YAML_DOCUMENT_END_EVENT:
            event->kind = CYAML_DOCUMENT_END;
            return;
        case YAML_ALIAS_EVENT:
            event->kind = CYAML_ALIAS;
            return;
        case YAML_SCALAR_EVENT:
            event->kind = CYAML_SCALAR;
            event->value = (const char *)self->event.data.scalar.value;
            event->length = self->event.data.scalar.length;
            event->plain = self->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
            event->has_anchor = self->event.data.scalar.anchor != NULL;
            event->has_tag = self->event.data.scalar.tag != NULL;
            return;
        case YAML_SEQUENCE_START_EVENT:
            event->kind = CYAML_SEQUENCE_START;
            event->has_anchor = self->event.data.sequence_start.anchor != NULL;
            event->has_tag = self->event.data.sequence_start.tag != NULL;
            return;
        case YAML_SEQUENCE_END_EVENT:
            event->kind = CYAML_SEQUENCE_END;
            return;
        case YAML_MAPPING_START_EVENT:
            event->kind = CYAML_MAPPING_START;
            event->has_anchor = self->event.data.mapping_start.anchor != NULL;
            event->has_tag = self->event.data.mapping_start.tag != NULL;
            return;
        case YAML_MAPPING_END_EVENT:
            event->kind = CYAML_MAPPING_END;
            return;
        case YAML_STREAM_END_EVENT:
        case YAML_NO_EVENT:
            event->kind = CYAML_STREAM_END;
            return;
        }
    }
}

void cyaml_parser_destroy(cyaml_parser *self) {
    if (self == NULL) return;
    if (self->holds_event) yaml_event_delete(&self->event);
    yaml_parser_delete(&self->parser);
    free(self);
}
