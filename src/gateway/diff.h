/*
 * diff.h - a readable unified diff of two texts, line by line.
 */
#pragma once

/*
 * Lines that only `before` has start with "-", those only `after` has with "+", all others with " ". Nothing
 * is left out: the whole document is the context. malloc'ed, caller frees. Very large texts that differ
 * nearly everywhere are shown as one replaced block.
 */
char *diff_lines(const char *before, const char *after);
