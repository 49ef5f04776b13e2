"""Strings and values of JSON, checked in full as RFC 8259 and UTF-8 want it.

Functions return where something ends, and NULL for a fault. They read nothing beyond `end`.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    LONE = 0xFFFFFFFF  # a surrogate without its other half


cdef inline const uint8_t* skip_space(const uint8_t* p, const uint8_t* end) noexcept nogil:
    while p < end and p[0] <= 32 and (p[0] == b" " or p[0] == b"\n" or p[0] == b"\r" or p[0] == b"\t"):
        p += 1
    return p


cdef inline const uint8_t* skip_plain(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Skip the bytes of a string that stand for themselves: ASCII without quotes, backslashes and control characters."""
    while p < end and 32 <= p[0] < 128 and p[0] != b'"' and p[0] != b"\\":
        p += 1
    return p


cdef inline const uint8_t* skip_beyond_ascii(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Skip one character of two bytes or more: no surrogate, none above U+10FFFF, and in its shortest form."""
    cdef int lead = p[0], low = 0x80, high = 0xBF, more = 1
    if lead >= 0xF0:
        more = 3
        low = 0x90 if lead == 0xF0 else 0x80
        high = 0x8F if lead == 0xF4 else 0xBF
    elif lead >= 0xE0:
        more = 2
        low = 0xA0 if lead == 0xE0 else 0x80
        high = 0x9F if lead == 0xED else 0xBF
    if lead < 0xC2 or lead > 0xF4 or end - p <= more or not low <= p[1] <= high:
        return NULL
    for low in range(2, more + 1):
        if p[low] & 0xC0 != 0x80:
            return NULL
    return p + more + 1


cdef inline int hex_digit(uint8_t c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else -1


cdef inline int hex_code(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Return the number of `\\uXXXX`, or -1."""
    cdef int i, digit, code = 0
    if end - p < 6 or p[0] != b"\\" or p[1] != b"u":
        return -1
    for i in range(2, 6):
        digit = hex_digit(p[i])
        if digit < 0:
            return -1
        code = code * 16 + digit
    return code


cdef inline const uint8_t* read_escape(const uint8_t* p, const uint8_t* end, uint32_t* code) noexcept nogil:
    """Read an escape, or two that are one character: `LONE` for half of such a pair."""
    cdef int low
    if end - p < 2:
        return NULL
    if p[1] == b"u":
        low = hex_code(p, end)
        if low < 0:
            return NULL
        code[0] = low
        p += 6
        if low >> 11 == 27:  # 0xD800 to 0xDFFF
            code[0] = LONE
            if low < 0xDC00:
                low = hex_code(p, end)
                if low >> 10 == 55:  # 0xDC00 to 0xDFFF
                    code[0] = 0x10000 + ((<uint32_t>hex_code(p - 6, end) & 0x3FF) << 10) + (low & 0x3FF)
                    p += 6
        return p
    if p[1] == b'"' or p[1] == b"\\" or p[1] == b"/":
        code[0] = p[1]
    elif p[1] == b"n":
        code[0] = 10
    elif p[1] == b"t":
        code[0] = 9
    elif p[1] == b"r":
        code[0] = 13
    elif p[1] == b"b":
        code[0] = 8
    elif p[1] == b"f":
        code[0] = 12
    else:
        return NULL
    return p + 2


cdef inline const uint8_t* skip_string(const uint8_t* p, const uint8_t* end, bint* escaped) noexcept nogil:
    """Skip a string, from behind its first quote to its last one. Set `escaped` where it has escapes."""
    cdef uint32_t code
    while p != NULL:
        p = skip_plain(p, end)
        if p == end or p[0] < 32:
            return NULL
        if p[0] == b'"':
            return p
        if p[0] == b"\\":
            escaped[0] = True
            p = read_escape(p, end, &code)
        else:
            p = skip_beyond_ascii(p, end)
    return NULL


cdef inline Py_ssize_t unescape(const uint8_t* p, const uint8_t* end, uint8_t* out) noexcept nogil:
    """Decode the escapes of a valid string, which get no longer by it. Return the size, or -1 for a lone surrogate."""
    cdef uint8_t* begin = out
    cdef uint32_t code = LONE
    while p < end:
        if p[0] != b"\\":
            out[0] = p[0]
            out += 1
            p += 1
            continue
        p = read_escape(p, end, &code)
        if code == LONE:
            return -1
        if code < 0x80:
            out[0] = code
            out += 1
            continue
        if code < 0x800:
            out[0] = 0xC0 | code >> 6
        else:
            if code < 0x10000:
                out[0] = 0xE0 | code >> 12
            else:
                out[0] = 0xF0 | code >> 18
                out += 1
                out[0] = 0x80 | (code >> 12 & 0x3F)
            out += 1
            out[0] = 0x80 | (code >> 6 & 0x3F)
        out[1] = 0x80 | (code & 0x3F)
        out += 2
    return out - begin


cdef inline const uint8_t* skip_digits(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Skip one digit or more."""
    if p == end or not 48 <= p[0] <= 57:
        return NULL
    while p < end and 48 <= p[0] <= 57:
        p += 1
    return p


cdef inline const uint8_t* skip_whole_number(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Skip digits without a leading zero."""
    return p + 1 if p < end and p[0] == b"0" else skip_digits(p, end)


cdef inline const uint8_t* skip_number(const uint8_t* p, const uint8_t* end) noexcept nogil:
    p = skip_whole_number(p + (p[0] == b"-"), end)
    if p != NULL and p < end and p[0] == b".":
        p = skip_digits(p + 1, end)
    if p != NULL and p < end and p[0] | 32 == b"e":
        p += 1
        if p < end and (p[0] == b"+" or p[0] == b"-"):
            p += 1
        p = skip_digits(p, end)
    return p


cdef inline const uint8_t* skip_word(const uint8_t* p, const uint8_t* end, const char* word, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    if end - p < size:
        return NULL
    for i in range(size):
        if p[i] != <uint8_t>word[i]:
            return NULL
    return p + size


cdef inline const uint8_t* skip_scalar(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Skip a value without brackets, which begins before `end`."""
    cdef bint escaped
    if p[0] == b'"':
        p = skip_string(p + 1, end, &escaped)
        return p + 1 if p != NULL else NULL
    if p[0] == b"n":
        return skip_word(p, end, "null", 4)
    if p[0] == b"t":
        return skip_word(p, end, "true", 4)
    if p[0] == b"f":
        return skip_word(p, end, "false", 5)
    return skip_number(p, end)


cdef inline const uint8_t* skip_key(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Skip a member's name and colon, and the white space behind them."""
    cdef bint escaped
    if p == end or p[0] != b'"':
        return NULL
    p = skip_string(p + 1, end, &escaped)
    if p == NULL:
        return NULL
    p = skip_space(p + 1, end)
    return skip_space(p + 1, end) if p < end and p[0] == b":" else NULL


cdef inline bint closes(uint8_t c, uint64_t objects) noexcept nogil:
    return c == (125 if objects & 1 else 93)  # } ]


cdef inline const uint8_t* skip_value(const uint8_t* p, const uint8_t* end, int max_open) noexcept nogil:
    """Skip any value that begins at p, in which at most so many (64) brackets are open at once."""
    cdef uint64_t objects = 0  # for each bracket that it opens whether this is a brace, the innermost in the lowest bit
    cdef int opened = 0
    while True:
        if p == NULL or p == end:
            return NULL
        if p[0] != b"{" and p[0] != b"[":
            p = skip_scalar(p, end)
        else:
            if opened == max_open:
                return NULL
            opened += 1
            objects = objects << 1 | (p[0] == b"{")
            p = skip_space(p + 1, end)
            if p == end:
                return NULL
            if not closes(p[0], objects):
                p = skip_key(p, end) if objects & 1 else p
                continue
        # A value has ended, or an empty pair of brackets is about to.
        while p != NULL and opened:
            p = skip_space(p, end)
            if p == end:
                return NULL
            if p[0] == b",":
                p = skip_space(p + 1, end)
                p = skip_key(p, end) if objects & 1 else p
                break
            if not closes(p[0], objects):
                return NULL
            p += 1
            opened -= 1
            objects >>= 1
        else:
            return p
