# A virtual machine that says which keys are pressed: a boot sector that writes each byte of its keyboard, which
# are scan codes of set 1, to QEMU's debug console. A zero, which is no scan code, says before them that it listens.
#
# QEMU is started with -icount, by which its time passes as instructions do, and while the machine has nothing to do from
# one tick of its clock to the next. So no key comes before the one before it was read, however busy the host is. The
# clock ticks as often as QEMU's VNC server may press keys.
#
# Built like boot.S (see `_guest` in the Justfile).

    .set DEBUG_CONSOLE, 0xe9            # -debugcon
    .set KEYBOARD_DATA, 0x60
    .set KEYBOARD_VECTOR, 9 * 4         # IRQ 1, as the BIOS has set up the interrupt controller
    .set TIMER_COUNT, 0x40
    .set TIMER_COMMAND, 0x43
    .set TIMER_PERIODIC, 0x34           # counter 0, low byte and high byte, mode 2
    .set TIMER_DIVISOR, 1193            # of 1193182 Hz: a millisecond
    .set INTERRUPT_CONTROLLER, 0x20
    .set END_OF_INTERRUPT, 0x20

    .code16
    .globl _start
_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7c00, %sp
    movw $keyboard, KEYBOARD_VECTOR
    movw %ax, KEYBOARD_VECTOR + 2
    mov $TIMER_PERIODIC, %al
    out %al, $TIMER_COMMAND
    mov $(TIMER_DIVISOR & 0xff), %al
    out %al, $TIMER_COUNT
    mov $(TIMER_DIVISOR >> 8), %al
    out %al, $TIMER_COUNT
    xor %al, %al
    out %al, $DEBUG_CONSOLE
    sti
idle:
    hlt
    jmp idle

keyboard:
    push %ax
    in $KEYBOARD_DATA, %al
    out %al, $DEBUG_CONSOLE
    mov $END_OF_INTERRUPT, %al
    out %al, $INTERRUPT_CONTROLLER
    pop %ax
    iret

    .org 510
    .word 0xaa55                        # the BIOS boots a sector that ends so
