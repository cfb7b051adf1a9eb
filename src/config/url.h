/*
 * url.h - which base URLs a provider may have: https to anywhere, http to loopback only.
 */
#pragma once

/* NULL when `url` is acceptable, else a clause that says what it must be. */
const char *url_check(const char *url);
