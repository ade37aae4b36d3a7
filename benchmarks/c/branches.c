/* Branchy code: a small machine whose operations are the bytes of the packet. */
#include "form.h"

#ifndef STEPS
#define STEPS 48
#endif

PROGRAM(branches)
{
    uint32_t a, b, c;

    if (!ROOM(STEPS + 12))
        return 0;
    a = *(const uint32_t *)(pkt + STEPS);
    b = *(const uint32_t *)(pkt + STEPS + 4);
    c = *(const uint32_t *)(pkt + STEPS + 8);
    LOOP for (int i = 0; i < STEPS; i++) {
        switch (pkt[i] & 7) {
        case 0:
            a += b;
            break;
        case 1:
            b ^= c;
            break;
        case 2:
            c = c * 5 + 1;
            break;
        case 3:
            if (a > b)
                a -= b;
            break;
        case 4:
            b = b << 3 | b >> 29;
            break;
        case 5:
            if (c & 1)
                c += a;
            break;
        case 6:
            a = ~a;
            break;
        default:
            b += i;
        }
    }
    return a ^ b ^ c;
}
