# A virtual machine that says which keys are pressed: a boot sector that writes each byte of its keyboard, which
# are scan codes of set 1, to QEMU's debug console.
#
# Built like boot.S (see `_guest` in the Justfile).

    .set DEBUG_CONSOLE, 0xe9            # -debugcon
    .set KEYBOARD_DATA, 0x60
    .set KEYBOARD_VECTOR, 9 * 4         # IRQ 1, as the BIOS has set up the interrupt controller
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
