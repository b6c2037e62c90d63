/** X11 keysyms by their names. */
declare const KeyTable: Record<
    | "XK_Return" | "XK_Tab" | "XK_Escape" | "XK_BackSpace" | "XK_Insert" | "XK_Delete" | "XK_Home" | "XK_End"
    | "XK_Page_Up" | "XK_Page_Down" | "XK_Left" | "XK_Up" | "XK_Right" | "XK_Down" | "XK_Print" | "XK_Sys_Req" | "XK_F1"
    | "XK_Control_L" | "XK_Alt_L" | "XK_Alt_R" | "XK_Super_L" | "XK_Shift_L" | "XK_r",
    number
>;
export default KeyTable;
