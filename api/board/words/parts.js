// Words that several pages use.

export const en = {
  previous: "Previous page",
  next: "Next page",
  page: "Page {page}",
  cancel: "Cancel",
  any: "any",
  none: "none",
  time: "Time",
  sku: "SKU",
  channel: "Channel",
  reason: "Reason",
  state: "State",
  actions: "Actions",
  read_at: "Read at {time}; it does not renew itself.",
  all_channels: "all channels",
};

export const zh = {
  previous: "上一页",
  next: "下一页",
  page: "第 {page} 页",
  cancel: "取消",
  any: "不限",
  none: "无",
  time: "时间",
  sku: "SKU",
  channel: "渠道",
  reason: "原因",
  state: "状态",
  actions: "操作",
  read_at: "读取于 {time}，不会自动刷新。",
  all_channels: "所有渠道",
};
