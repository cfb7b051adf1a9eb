/*
 * openapi.h - api/openapi.json, embedded at build time (see meson.build).
 */
#pragma once
#include <stddef.h>

extern const unsigned char openapi_document[];
extern const size_t openapi_document_len;
