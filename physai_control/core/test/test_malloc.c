/* No cycle allocates or frees: 10^4 of them with chunks, stops, faults and resets. */
#include "malloc_trap.h"
#include "robot.h"

#define CYCLES 10000

int main(void)
{
    static struct robot robot;
    long before = physai_malloc_count(), in_cycles = 0;
    void *volatile memory = malloc(1);
    free(memory);
    CHECK(physai_malloc_count() == before + 2); /* the trap works */
    robot_open(&robot);
    robot_activate(&robot);
    robot_run(&robot, 100);
    for (int i = 0; i < CYCLES; i++) {
        if (i % 150 == 0) {
            struct physai_chunk chunk = robot_chunk(&robot, i % 300 ? 0.1 : -0.1);
            physai_control_post_chunk(robot.control, &chunk, NULL, 0);
        }
        if (i % 1900 == 1800)
            physai_control_request(robot.control, PHYSAI_REQUEST_STOP);
        if (i % 1900 == 1850)
            physai_control_request(robot.control, PHYSAI_REQUEST_RESUME);
        if (i % 2500 == 2400)
            robot.state.dq[1] = 9; /* a fault */
        if (i % 2500 == 2450) {
            memcpy(robot.state.q, home, sizeof home);
            memset(robot.state.dq, 0, sizeof robot.state.dq);
            physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
        }
        robot.state.seq++;
        robot.state.time_ns += TICK;
        before = physai_malloc_count();
        int sent = physai_control_cycle(robot.control, i % 97 ? &robot.state : NULL, &robot.command);
        in_cycles += physai_malloc_count() - before;
        physai_control_read_status(robot.control, &robot.status);
        if (sent && (robot.command.flags & PHYSAI_COMMAND_ENABLE)) {
            memcpy(robot.state.q, robot.command.q, sizeof robot.state.q);
            memcpy(robot.state.dq, robot.command.dq, sizeof robot.state.dq);
        }
    }
    printf("%ld allocations in %d cycles\n", in_cycles, CYCLES);
    CHECK(robot.status.chunks_accepted > 20);
    CHECK(in_cycles == 0);
    robot_close(&robot);
    return 0;
}
