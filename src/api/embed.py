"""Writes a file as a C byte array: embed.py INPUT OUTPUT. JSON is checked and its spaces are dropped."""
import json
import sys

with open(sys.argv[1], encoding="utf-8") as source:
    data = json.dumps(json.load(source), separators=(",", ":")).encode()
with open(sys.argv[2], "w", encoding="ascii") as out:
    out.write('#include "api/openapi.h"\n\nconst unsigned char openapi_document[] = {\n')
    for i in range(0, len(data), 24):
        out.write(" ".join("%d," % byte for byte in data[i:i + 24]) + "\n")
    out.write("};\nconst size_t openapi_document_len = sizeof(openapi_document);\n")
