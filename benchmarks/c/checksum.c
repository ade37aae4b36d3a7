/* The sum of the internet checksum (RFC 1071) over 1500 bytes. */
#include "form.h"

#define SIZE 1500

PROGRAM(checksum)
{
    uint64_t sum = 0;

    if (!ROOM(SIZE))
        return 0;
    LOOP for (int i = 0; i < SIZE; i += 2) {
        sum += *(const uint16_t *)(pkt + i);
        IN_ORDER;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum ^ 0xffff;
}
