/* Sorts 32 numbers on the stack by insertion and returns the middle one: what the branches do, the data decide. */
#include "form.h"

#define COUNT 32

PROGRAM(sort)
{
    uint64_t numbers[COUNT];

    if (!ROOM(COUNT * 2))
        return 0;
    for (int i = 0; i < COUNT; i++)
        numbers[i] = *(const uint16_t *)(pkt + 2 * i);
    for (int i = 1; i < COUNT; i++) {
        for (int j = i; j > 0; j--) {
            uint64_t lower = numbers[j - 1], upper = numbers[j];

            if (lower <= upper)
                break;
            numbers[j - 1] = upper;
            numbers[j] = lower;
        }
    }
    return numbers[COUNT / 2];
}
